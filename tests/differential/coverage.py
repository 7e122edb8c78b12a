"""What the programs have reached, counted by what Apache said: operation × error code × configuration, event kind ×
cause × configuration, and which errors take a zxid. Operations inside a multi count as `multi:create` and so on.

`EXPECTED` says which cells there are: every error code of docs/protocol.md §2.5 that a standalone server can give, but for
those of `UNREACHABLE`."""

import re

import wire
from compare import codes

ALL = ("default", "quota", "extended", "local", "reconfig")
# Where TTL nodes are switched on.
EXTENDED = ("extended",)

CREATE = (0, -5, -8, -101, -102, -108, -110, -114)
IN_MULTI = (0, -8, -101, -102, -108, -110, -114)
EXPECTED = {
    "create": (*CREATE, -6), "create2": (*CREATE, -6), "createContainer": (*CREATE, -6), "createTTL": (-5, -6, -8),
    "delete": (0, -5, -8, -101, -102, -103, -111), "setData": (0, -5, -8, -101, -102, -103),
    "setACL": (0, -5, -8, -101, -102, -103, -114), "multi": (0, -5), "multiRead": (0, -5),
    "exists": (0, -5, -8, -101, -102), "getData": (0, -5, -101, -102), "getACL": (0, -5, -101, -102),
    "getChildren": (0, -5, -101, -102), "getChildren2": (0, -5, -101, -102), "getAllChildrenNumber": (0, -5, -101, -102),
    "sync": (0, -5), "ping": (0,), "checkWatches": (0, -5, -121), "removeWatches": (0, -5, -121), "addWatch": (0, -5),
    "getEphemerals": (0, -5), "whoAmI": (0,), "setWatches": (0, -5), "setWatches2": (0, -5), "auth": (0, -115), "sasl": (0,),
    "check": (-6,), "unknown": (-6,), "closeSession": (0,), "reconfig": (-123, -5),
    "multi:create": (*IN_MULTI, -2), "multi:create2": (*IN_MULTI, -2), "multi:createContainer": IN_MULTI, "multi:createTTL": (-6,),
    "multi:delete": (0, -2, -8, -101, -102, -103, -111),
    "multi:setData": (0, -2, -8, -101, -102, -103), "multi:check": (0, -2, -8, -101, -102, -103),
    "multiRead:getData": (0, -101, -102), "multiRead:getChildren": (0, -101, -102),
}
# More, and other, codes in single configurations.
MORE = {
    "quota": {"create": (-125,), "create2": (-125,), "createContainer": (-125,), "setData": (-125,),
              "multi:create": (-125,), "multi:setData": (-125,)},
    "extended": {"createTTL": CREATE, "multi:createTTL": IN_MULTI},
    "reconfig": {"reconfig": (-6,)},
}
LESS = {
    "extended": {"create": (-6,), "create2": (-6,), "createContainer": (-6,), "createTTL": (-6,), "multi:createTTL": (-6,)},
    "reconfig": {"reconfig": (-123,)},
}
# Codes that no cell has, and why.
UNREACHABLE = {
    "-1 (any write)": "only Ringkeeper sends it, when its disk is full; Apache ends then",
    "-12 (any request)": "needs a request that is under way when its session ends: a race",
    "-112 (any write)": "the same",
    "-13, -14, and -103, -8 or -102 of reconfig": "need an ensemble",
    "-119 (any write)": "needs a server of an ensemble that has become read-only",
    "-120 (create)": "needs an ensemble: a standalone Apache server makes every session a global one, whatever "
                     "`localSessionsEnabled` says",
    "-124 (any request)": "needs enforced authentication schemes, which is none of the configurations",
    "-127 (any request)": "needs a throttle that is full, which is none of the configurations and depends on time",
    "-125 of createTTL": "needs `enforceQuota` and `extendedTypesEnabled` together",
}
CREATED, DELETED, CHANGED, CHILDREN = 1, 2, 3, 4
KINDS = {CREATED: "NodeCreated", DELETED: "NodeDeleted", CHANGED: "NodeDataChanged", CHILDREN: "NodeChildrenChanged"}
EVENTS = {
    "create": (CREATED, CHILDREN), "create2": (CREATED, CHILDREN), "createContainer": (CREATED, CHILDREN),
    "delete": (DELETED, CHILDREN), "setData": (CHANGED,), "multi": (CREATED, DELETED, CHANGED, CHILDREN),
    "setWatches": (CREATED, DELETED, CHANGED, CHILDREN), "setWatches2": (CREATED, DELETED, CHANGED, CHILDREN),
    "closeSession": (DELETED, CHILDREN), "expire": (DELETED, CHILDREN),
}


def expected(config):
    """(operation, code) of every cell of a configuration."""
    cells = set()
    for op in EXPECTED:
        cells |= {(op, code) for code in (*EXPECTED[op], *MORE.get(config, {}).get(op, ()))}
        cells -= {(op, code) for code in LESS.get(config, {}).get(op, ())}
    return cells


def expected_events(config):
    extended = {"createTTL": (CREATED, CHILDREN)} if config in EXTENDED else {}
    return {(cause, kind) for cause, kinds in {**EVENTS, **extended}.items() for kind in kinds}


def unreachable():
    """The lines of the table in docs/differences.md."""
    lines = ["| Code (operation) | Why |", "|---|---|", *(f"| {what} | {why} |" for what, why in UNREACHABLE.items())]
    return [re.sub(r"(?<!\w)-(?=\d)", "\u2212", line) for line in lines]


class Coverage:
    def __init__(self, kept=None):
        # "config|operation|code": count; "config|cause|kind": count; "operation|code": [took a zxid, took none].
        kept = kept or {}
        self.cells, self.events, self.zxids = kept.get("cells", {}), kept.get("events", {}), kept.get("zxids", {})

    def kept(self):
        return {"cells": self.cells, "events": self.events, "zxids": self.zxids}

    def add(self, other):
        """What another run has counted."""
        for own, more in ((self.cells, other.cells), (self.events, other.events)):
            for key, n in more.items():
                own[key] = own.get(key, 0) + n
        for key, (took, none) in other.zxids.items():
            before = self.zxids.get(key, (0, 0))
            self.zxids[key] = [before[0] + took, before[1] + none]

    def compact(self):
        """For the evidence: {operation: {code: counts by configuration}}, and the same of events."""
        made = {"configurations": [*ALL, "reaping"], "errors": {}, "events": {}}
        for name, table in (("errors", self.cells), ("events", self.events)):
            for key, n in sorted(table.items()):
                config, op, code = key.split("|")
                made[name].setdefault(op, {}).setdefault(code, [0] * 6)[made["configurations"].index(config)] = n
        made["zxids"] = {key: self.takes(*key.split("|")) for key in sorted(self.zxids)}
        made["empty"], made["fewer_than_100"] = self.empty(), self.empty(100)
        return made

    @staticmethod
    def count(table, *key):
        name = "|".join(map(str, key))
        table[name] = table.get(name, 0) + 1

    def saw(self, config, out, newest, causes, cause):
        """One answer of Apache's. `newest`: the zxid before it; `causes`: what caused a zxid, kept by the caller."""
        for group in out.groups:
            newest = self.answered(config, group, newest, causes)
        for one in [*(one for group in out.groups for one in group.events), *out.tail]:
            if one[0] == "event" and one[3] in KINDS:
                known = causes.get(one[1], cause or "unknown") if one[1] > 0 else cause_of_catch_up(out)
                self.count(self.events, config, known, one[3])

    def answered(self, config, group, newest, causes):
        if group.reply is None or group.request is None:
            return newest
        # A createSession is answered with a ConnectResponse, which has no code.
        op, err = group.request.op, 0 if group.request.op == "createSession" else group.reply.err
        self.count(self.cells, config, op, err)
        took = group.reply.raw_zxid > newest
        pair = self.zxids.setdefault(f"{op}|{err}", [0, 0])
        pair[0 if took else 1] += 1
        if took:
            causes[group.reply.zxid] = op
        inner = codes(group) if op in ("multi", "multiRead") else []
        for (kind, _), code in zip(group.request.args.get("ops", ()), inner):
            self.count(self.cells, config, f"{op}:{kind}", code)
        return max(newest, group.reply.raw_zxid)

    def empty(self, at_least=1):
        """Names of cells with less."""
        poor = []
        for config in ALL:
            poor += [f"{op} {code} ({config})" for op, code in sorted(expected(config))
                     if self.cells.get(f"{config}|{op}|{code}", 0) < at_least]
            poor += [f"{KINDS[kind]} by {cause} ({config})" for cause, kind in sorted(expected_events(config))
                     if self.events.get(f"{config}|{cause}|{kind}", 0) < at_least]
        poor += [f"{KINDS[kind]} by reap (reaping)" for kind in (DELETED, CHILDREN)
                 if self.events.get(f"reaping|reap|{kind}", 0) < at_least]
        return poor

    def table(self):
        """The tables as lines of Markdown. A dot is a cell that can't be; 0 is one that was not reached."""
        configs = (*ALL, "reaping")
        lines = [f"| Operation | Error | {' | '.join(configs)} | Takes a zxid |", f"|---|---|{'---|' * (len(configs) + 1)}"]
        reached = {tuple(key.split("|")[1:]) for key in self.cells} | {(op, str(code)) for c in ALL for op, code in expected(c)}
        for op, code in sorted(reached, key=lambda cell: (order_of(cell[0]), -int(cell[1]))):
            row = []
            for config in configs:
                n = self.cells.get(f"{config}|{op}|{code}", 0)
                row.append(str(n) if n or (config in ALL and (op, int(code)) in expected(config)) else "·")
            lines.append(f"| {op} | {code} | {' | '.join(row)} | {self.takes(op, code)} |")
        lines += ["", f"| Cause | Event | {' | '.join(configs)} |", f"|---|---|{'---|' * len(configs)}"]
        reached = {tuple(key.split("|")[1:]) for key in self.events} | {(cause, str(kind)) for c in ALL for cause,
                                                                        kind in expected_events(c)}
        for cause, kind in sorted(reached):
            row = []
            for config in configs:
                n = self.events.get(f"{config}|{cause}|{kind}", 0)
                row.append(str(n) if n or (config in ALL and (cause, int(kind)) in expected_events(config)) else "·")
            lines.append(f"| {cause} | {KINDS[int(kind)]} | {' | '.join(row)} |")
        return lines

    def takes(self, op, code):
        took, none = self.zxids.get(f"{op}|{code}", (0, 0))
        return "·" if not took and not none else "yes" if not none else "no" if not took else f"{took} of {took + none}"


def order_of(op):
    """In the order of the protocol's numbers, the parts of a multi behind it."""
    whole, _, part = op.partition(":")
    return abs(wire.NUMBERS.get(whole, 1000)), abs(wire.NUMBERS.get(part, 0)), op


def cause_of_catch_up(out):
    requests = [group.request for group in out.groups if group.request]
    return next((one.op for one in requests if one.op in ("setWatches", "setWatches2")), "unknown")
