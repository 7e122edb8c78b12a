"""The differences from Apache 3.9.5 that are known and stay, each with its reason.

A row's predicate looks at the request, at what was asked before it and at both answers (compare.py: `Group`s, with
their error, their events and their results), and must be true of nothing else. What follows from a row: `takes`, so many
zxids Apache may have taken that ours has not; `drops`, both connections are ended, because they have another state
now (a watch more, or closed on one server); `ends`, the program ends, because the trees are no longer the same.
docs/differences.md is this table for readers: `tests/differential/run --table` prints it."""

import re
from dataclasses import dataclass
from typing import Callable

import wire
from compare import codes

MARSHALLING, UNIMPLEMENTED, BAD_ARGUMENTS, NO_AUTH, INVALID_ACL = -5, -6, -8, -102, -114
# Operations that a multi may hold.
IN_MULTI = (*wire.CREATES, "delete", "setData", "check")


@dataclass(frozen=True)
class Row:
    # The first words are the number of its class in the notes of the first comparison, where it has one.
    name: str
    # For readers: what is asked, and what each server says to it.
    asked: str
    apache: str
    ours: str
    reason: str
    # (request, Apache's group, our group, situation) -> bool
    predicate: Callable
    takes: int = 0
    drops: bool = False
    ends: bool = False
    # Whether both may say the same, and only what comes later shows the difference.
    hides: bool = False

    def explains(self, config, requests, n, apache, ours, earlier=()):
        request = requests[n] if n < len(requests) else None
        return request is not None and bool(self.predicate(request, apache, ours, Situation(config, requests[:n], earlier)))


@dataclass(frozen=True)
class Situation:
    config: str
    # Requests of the same batch, before this one.
    before: tuple
    # Requests of the program in earlier batches, of any session.
    earlier: tuple


def parts(request):
    """The request itself, or the operations of a multi, as (operation, arguments)."""
    return request.args["ops"] if request.op in ("multi", "multiRead") else [(request.op, request.args)]


def lists(request):
    """The ACL lists in a request."""
    return [args["acl"] for _, args in parts(request) if "acl" in args]


def watched(request):
    """The lists of paths of setWatches or setWatches2."""
    return [request.args[name] for name in ("data", "exist", "child", "persistent", "recursive") if name in request.args]


def errs(apache, ours):
    return apache.err(), ours.err()


def has_null_id(request):
    return any(entry[1] is None or entry[2] is None for acl in lists(request) if isinstance(acl, list) for entry in acl)


def null_in_acl(request, apache, ours, _):
    if not has_null_id(request):
        return False
    if request.op == "multi":
        is_due = INVALID_ACL in codes(ours) or plain_ttl(request, ours) is not None
        return apache.err() == MARSHALLING and ours.err() == 0 and is_due
    return errs(apache, ours) == (MARSHALLING, INVALID_ACL)


def touched(request):
    """The paths that a write is about, and their parents."""
    paths = {args["path"] for _, args in parts(request) if isinstance(args.get("path"), str)}
    return paths | {path.rpartition("/")[0] or "/" for path in paths}


def behind_null_in_acl(request, apache, ours, situation):
    """Both have answered it, each by another state of what the multi before it was about."""
    left = set().union(*(touched(one) for one in situation.before if one.op == "multi" and has_null_id(one)))
    return request.op in (*wire.CREATES, "delete", "setData", "setACL", "multi") and bool(left & touched(request)) and not {None, MARSHALLING} & set(errs(apache, ours))


def null_in_set_watches(request, apache, ours, _):
    has_null = request.op in ("setWatches", "setWatches2") and any(
        one is None or isinstance(one, list) and None in one for one in watched(request))
    return has_null and errs(apache, ours) == (MARSHALLING, MARSHALLING) and not ours.events


def negative_count(request, apache, ours, _):
    is_negative = any(isinstance(one, int) and one < -1 for one in lists(request))
    # An empty list: the operation fails, the multi with it.
    fails = apache.err() == 0 and any(codes(apache)) if request.op == "multi" else apache.err() in (
        UNIMPLEMENTED, BAD_ARGUMENTS, INVALID_ACL)
    return is_negative and ours.err() == MARSHALLING and fails


def negative_count_of_watches(request, apache, ours, _):
    is_negative = request.op in ("setWatches", "setWatches2") and any(isinstance(one, int) and one < -1 for one in watched(request))
    return is_negative and errs(apache, ours) in ((0, MARSHALLING), (MARSHALLING, MARSHALLING))


def is_malformed_multi(request):
    """Whether a multi is of those that Apache does not execute at all."""
    def is_bad(op, args):
        if op not in IN_MULTI or args["path"] is None:
            return True
        return op in wire.CREATES and op != "createTTL" and (args["flags"] not in range(5) or args["acl"] is None)

    return request.op == "multi" and (
        request.bend is not None or not request.args.get("ended", True) or any(is_bad(*one) for one in request.args["ops"]))


def unparsable_takes_a_zxid(request, apache, ours, _):
    # Four bytes that are overwritten can make a path null.
    is_null = request.op in (*wire.CREATES, "delete") and (
        request.args["path"] is None or request.bend is not None and request.bend[0] == "put")
    return ((is_null or is_malformed_multi(request)) and errs(apache, ours) == (MARSHALLING, MARSHALLING)
            and apache.reply.xid == ours.reply.xid and apache.events == ours.events and not apache.reply.body and not ours.reply.body)


def null_path_and_odd_flags(request, apache, ours, _):
    is_odd = request.op in wire.CREATES and request.args["path"] is None and (request.args["flags"] != 0 or request.op == "createTTL")
    return is_odd and apache.err() in (BAD_ARGUMENTS, UNIMPLEMENTED) and ours.err() == MARSHALLING


def unparsable_auth(request, apache, ours, _):
    return request.op == "auth" and request.bend is not None and apache.reply is None and ours.err() == MARSHALLING


def units(value):
    """UTF-16, as Java holds a text. None: that is no text."""
    try:
        return value.decode("utf-8", "surrogatepass").encode("utf-16-be", "surrogatepass")
    except UnicodeDecodeError:
        return None


def is_folded(apache, ours):
    """Whether Apache's value is ours as Java's writer leaves it, each surrogate by itself, or its reader behind that,
    which makes a mark of each."""
    if isinstance(apache, tuple) and isinstance(ours, tuple):
        return len(apache) == len(ours) and all(map(is_folded, apache, ours))
    if apache == ours or not isinstance(apache, bytes) or not isinstance(ours, bytes) or None in (units(apache), units(ours)):
        return apache == ours
    marked = re.sub("[\U00010000-\U0010ffff]", "\ufffd\ufffd", ours.decode("utf-8", "surrogatepass"))
    return units(apache) in (units(ours), units(marked.encode("utf-8", "surrogatepass")))


def echoes_beyond_the_plane(_, apache, ours, __):
    if apache.reply is None or ours.reply is None or apache.err() != 0:
        return False
    a, b = ((tuple(group.events), group.reply.key()) for group in (apache, ours))
    return is_folded(a, b)


def write_behind_set_acl(request, apache, ours, situation):
    behind = any(one.op == "setACL" and one.args["path"] in touched(request) for one in situation.before)
    return behind and (NO_AUTH in errs(apache, ours) or NO_AUTH in codes(apache) + codes(ours))


def plain_ttl(request, ours):
    """The number of the createTTL without TTL flags by which a multi has failed here, if it has."""
    n = next((n for n, code in enumerate(codes(ours)) if code), None)
    op, args = request.args["ops"][n] if n is not None else ("", {})
    is_plain = op == "createTTL" and args["flags"] in range(4)
    return n if is_plain and codes(ours)[n] == BAD_ARGUMENTS else None


def plain_ttl_in_multi(request, apache, ours, _):
    """Both fail: the generator ends such a multi with an operation that can't succeed."""
    if request.op != "multi" or errs(apache, ours) != (0, 0) or not any(codes(apache)):
        return False
    n = plain_ttl(request, ours)
    return n is not None and not any(codes(apache)[:n])


QUOTAS, LIMITS = "/zookeeper/quota", "/zookeeper_limits"


def paths_without_limits(requests):
    """The paths whose quota was given a null for its limits."""
    written = [args for request in requests for op, args in parts(request) if op in (*wire.CREATES, "setData")]
    nodes = [args["path"] for args in written if args["data"] is None and isinstance(args["path"], str)]
    return [node[len(QUOTAS):-len(LIMITS)] for node in nodes if node.startswith(QUOTAS) and node.endswith(LIMITS)]


def unreadable_limits(request, apache, ours, situation):
    if situation.config != "quota" or apache.err() != MARSHALLING or apache.reply.body or ours.err() in (None, MARSHALLING):
        return False
    written = [args["path"] for op, args in parts(request) if op in (*wire.CREATES, "setData") and isinstance(args["path"], str)]
    limited = paths_without_limits((*situation.earlier, *situation.before))
    return any(path == above or path.startswith(above + "/") for path in written for above in limited)


def from_servers_only(request, apache, ours, _):
    return request.op in ("createSession", "deleteContainer") and ours.err() == UNIMPLEMENTED and apache.err() != UNIMPLEMENTED


def wrong_password(request, apache, ours, _):
    """The old connection of a session whose id comes with a wrong password."""
    return request.op == "wrongPassword" and apache.err() == "closed" and ours.err() == "open"


def overtaken_end(request, apache, ours, _):
    """The connection that a session had came right behind the end of the one before."""
    return (request.op == "attach" and request.args.get("has_overtaken", False)
            and apache.err() == "open" and ours.err() == "closed")


UNDECODED = "what can't be decoded is never ordered, and nothing of it happens"

TABLE = [
    Row("5 null in an ACL entry", "an ACL entry with a null scheme or id", "-5, or -114 where a null scheme comes first", "-114",
        "no client library sends one", null_in_acl),
    Row("5 behind a multi with such an entry", "a write behind a multi with such an entry, to the same nodes, both under way",
        "may be checked against what the multi, which has failed, would have done", "is checked against what is there",
        "what has failed has no effect", behind_null_in_acl, ends=True),
    Row("6 null in setWatches", "setWatches or setWatches2 with a null list, or a null inside of a list",
        "-5 behind the events and watches of what comes before the null", "-5, nothing was done",
        "half of a request is worse than none", null_in_set_watches, drops=True, hides=True),
    Row("7 negative count", "an ACL list with a count below -1", "an empty list: -114, or what is checked before it; a zxid is taken",
        "-5, no zxid", UNDECODED, negative_count, takes=1),
    Row("7 negative count in setWatches", "a list of paths with a count below -1", "an empty list: 0", "-5", UNDECODED,
        negative_count_of_watches, drops=True, hides=True),
    Row("8 unparsable takes a zxid", "a multi that can't be parsed, a create or delete with a null path", "-5, a zxid is taken",
        "-5, no zxid", UNDECODED, unparsable_takes_a_zxid, takes=1),
    Row("10 null path and odd flags", "a create with a null path whose flags or TTL are refused as well",
        "-8 or -6, a zxid is taken", "-5, no zxid", UNDECODED, null_path_and_odd_flags, takes=1),
    Row("13 unparsable auth", "auth whose body is cut off", "the connection is closed without a reply", "-5, it stays open",
        "the connection is held to the limits of any other", unparsable_auth, drops=True),
    Row("14 wrong password", "a session's id with a wrong password, while the session has a connection",
        "that connection is closed first", "it stays open", "a guessed id must not cut its owner off", wrong_password, drops=True),
    Row("overtaken end", "a session that comes back while the server still ends the connection that its client has dropped, and then once more",
        "now and then the connection in between stays open: the end of the first one has taken it off the map (`removeCnxnFromSessionMap`)",
        "it is closed", "a session has one connection", overtaken_end, drops=True),
    Row("15 beyond U+FFFF", "characters above U+FFFF in an ACL id or an echoed path", "six bytes each, CESU-8; of an ACL in a multi two U+FFFD", "four bytes, UTF-8",
        "clients decode UTF-8", echoes_beyond_the_plane),
    Row("17 write behind setACL", "a write behind a setACL of the same node or its parent, both under way",
        "may be checked against the old list", "is checked against the new list",
        "conditional writes are decided against what was ordered", write_behind_set_acl, ends=True),
    Row("18 plain createTTL in a multi", "a createTTL without TTL flags in a multi", "a plain create", "-8",
        "a TTL operation without TTL flags is refused in a multi as it is alone", plain_ttl_in_multi),
    Row("limits of a quota that can't be read", "a create or setData below a quota whose limits are null, with enforceQuota",
        "-5", "the quota limits nothing", "a text that a client may write must not close a subtree", unreadable_limits, ends=True),
    Row("from servers only", "operations -10 and 20 from a client", "executed, a zxid is taken", "-6, closed",
        "20 would delete without permission", from_servers_only, takes=1, drops=True),
]


def table():
    """The lines of the table in docs/differences.md."""
    lines = ["| Asked | Apache 3.9.5 | Ringkeeper | Why it stays | Row of the tool |", "|---|---|---|---|---|"]
    lines += [f"| {row.asked} | {row.apache} | {row.ours} | {row.reason} | {row.name} |" for row in TABLE]
    return [re.sub(r"(?<!\w)-(?=\d)", "\u2212", line) for line in lines]
