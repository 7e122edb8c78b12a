"""What must hold after a kill, said on plain values: no server, no clock.

A history is a list of operations (dicts):
  kind        create | set | delete | multi | close
  client, session
  path, data  (create: the path as answered, if it was)
  acked       the reply came with error 0
  zxid        of the reply, if acked
  order       position in the order in which the client got its replies
  version     of the reply's Stat (set)
  seq         a sequential create: its prefix
  ephemeral   owned by the session
  paths       multi: the paths that it creates, all or none of them
  old         seen in the state before this history: it counts as acknowledged, its zxid is no reply's
The final state maps path -> (data, stat).
"""

import collections


def check(history, final, live_sessions, dead_sessions, revealed_last_zxid):
    """Every broken promise, as text; an empty list if there is none."""
    wrong = []
    acked = [op for op in history if op["acked"]]
    _zxids([op for op in acked if not op.get("old")], revealed_last_zxid, wrong)
    by_path = collections.defaultdict(list)
    for op in history:
        for path in op.get("paths") or [op.get("path")]:
            if path:
                by_path[path].append(op)
    for path, ops in by_path.items():
        _path(path, ops, final, live_sessions, dead_sessions, wrong)
    _multis(history, final, wrong)
    _sequences(acked, wrong)
    for path, (_, stat) in final.items():
        owner = stat["ephemeralOwner"]
        if owner and owner in dead_sessions:
            wrong.append(f"{path} is left of session {owner:#x}, which is gone")
    return wrong


def _zxids(acked, last_zxid, wrong):
    seen = {}
    per_client = collections.defaultdict(int)
    for op in acked:
        zxid = op["zxid"]
        if zxid in seen:
            wrong.append(f"zxid {zxid:#x} was acknowledged twice: {seen[zxid]} and {op}")
        seen[zxid] = op
        if zxid <= per_client[op["client"]]:
            wrong.append(f"zxid {zxid:#x} of client {op['client']} does not follow {per_client[op['client']]:#x}")
        per_client[op["client"]] = zxid
        if zxid > last_zxid:
            wrong.append(f"zxid {zxid:#x} was acknowledged, the server is at {last_zxid:#x}")


def _path(path, ops, final, live_sessions, dead_sessions, wrong):
    """The last acknowledged change of a path holds, unless one whose outcome is unknown undid it."""
    acked = sorted((op for op in ops if op["acked"]), key=lambda op: op["zxid"])
    unknown = [op for op in ops if not op["acked"]]
    if not acked:
        return
    last = acked[-1]
    owner_gone = any(op.get("ephemeral") and op["session"] not in live_sessions for op in ops)
    if last["kind"] == "delete":
        if path in final and not any(op["kind"] in ("create", "multi") for op in unknown):
            created = final[path][1]["czxid"]
            if created < last["zxid"]:
                wrong.append(f"{path} is back: its delete at {last['zxid']:#x} was acknowledged")
        return
    if path not in final:
        if not owner_gone and not any(op["kind"] == "delete" for op in unknown):
            wrong.append(f"{path} is missing: {last['kind']} at {last['zxid']:#x} was acknowledged")
        return
    data, stat = final[path]
    if stat["mzxid"] < last["zxid"]:
        wrong.append(f"{path} is older (mzxid {stat['mzxid']:#x}) than acknowledged ({last['zxid']:#x})")
    elif stat["mzxid"] == last["zxid"] and last["kind"] != "multi":
        if data != last["data"]:
            wrong.append(f"{path} has other data than acknowledged at {last['zxid']:#x}")
        if last["kind"] == "set" and stat["version"] != last["version"]:
            wrong.append(f"{path} has version {stat['version']}, acknowledged was {last['version']}")
    elif stat["mzxid"] > last["zxid"]:
        if not any(op["kind"] in ("set", "create", "multi") for op in unknown):
            wrong.append(f"{path} was changed at {stat['mzxid']:#x} by nobody")


def _multis(history, final, wrong):
    """A multi that nobody deleted from is there as a whole or not at all."""
    for op in history:
        if op["kind"] == "multi":
            there = [path in final for path in op["paths"]]
            if any(there) != all(there):
                wrong.append(f"half a multi: {list(zip(op['paths'], there))}")
            if op["acked"] and not all(there):
                wrong.append(f"an acknowledged multi is missing: {op['paths']}")


def _sequences(acked, wrong):
    """Per prefix: unique, and growing with the zxid, over all restarts."""
    numbers = collections.defaultdict(list)
    for op in acked:
        if op.get("seq"):
            numbers[op["seq"].rsplit("/", 1)[0]].append((op["zxid"], int(op["path"][-10:]), op["path"]))
    for parent, found in numbers.items():
        found.sort()
        for (_, a, one), (_, b, other) in zip(found, found[1:]):
            if b <= a:
                wrong.append(f"sequence numbers of {parent} do not grow: {one}, then {other}")
