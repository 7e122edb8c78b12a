"""The differences from Apache 3.9.5 that are known and stay, each with its reason.

A row's predicate looks at the request and at both answers (compare.py: `Group`s, with their error, their events and
their results), and must be true of nothing else. What follows from a row: `takes`, so many zxids Apache may have
taken that ours has not; `drops`, both connections are ended, because they have another state now (a watch more, or
closed on one server); `ends`, the program ends, because the trees are no longer the same. docs/protocol.md lists
the same differences in §10, for users."""

from dataclasses import dataclass
from typing import Callable

import wire
from compare import codes

MARSHALLING, UNIMPLEMENTED, BAD_ARGUMENTS, NO_AUTH, INVALID_ACL = -5, -6, -8, -102, -114


@dataclass(frozen=True)
class Row:
    name: str
    reason: str
    # (request, Apache's group, our group, situation) -> bool
    predicate: Callable
    takes: int = 0
    drops: bool = False
    ends: bool = False

    def explains(self, config, requests, n, apache, ours):
        request = requests[n] if n < len(requests) else None
        return request is not None and bool(self.predicate(request, apache, ours, Situation(config, requests[:n])))


@dataclass(frozen=True)
class Situation:
    config: str
    # Requests of the same batch, before this one.
    before: tuple


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
        return apache.err() == MARSHALLING and ours.err() == 0 and INVALID_ACL in codes(ours)
    return errs(apache, ours) == (MARSHALLING, INVALID_ACL)


def null_in_set_watches(request, apache, ours, _):
    has_null = request.op in ("setWatches", "setWatches2") and any(
        one is None or isinstance(one, list) and None in one for one in watched(request))
    return has_null and errs(apache, ours) == (MARSHALLING, MARSHALLING) and not ours.events


def negative_count(request, apache, ours, _):
    is_negative = any(isinstance(one, int) and one < -1 for one in lists(request))
    return is_negative and ours.err() == MARSHALLING and apache.err() in (0, BAD_ARGUMENTS, INVALID_ACL, -101, -102)


def negative_count_of_watches(request, apache, ours, _):
    is_negative = request.op in ("setWatches", "setWatches2") and any(isinstance(one, int) and one < -1 for one in watched(request))
    return is_negative and errs(apache, ours) in ((0, MARSHALLING), (MARSHALLING, MARSHALLING))


def unparsable_takes_a_zxid(request, apache, ours, _):
    takes = request.op in ("multi", "create", "create2", "createContainer", "createTTL", "delete")
    return (takes and errs(apache, ours) == (MARSHALLING, MARSHALLING) and apache.reply.xid == ours.reply.xid
            and apache.events == ours.events and not apache.reply.body and not ours.reply.body)


def null_path_and_odd_flags(request, apache, ours, _):
    return (request.op in wire.CREATES and request.args["path"] is None and request.args["flags"] != 0
            and apache.err() in (BAD_ARGUMENTS, UNIMPLEMENTED) and ours.err() == MARSHALLING)


def unparsable_auth(request, apache, ours, _):
    return request.op == "auth" and request.bend is not None and apache.reply is None and ours.err() == MARSHALLING


def folded(value):
    """As Java's reader and writer leave a text: surrogates joined, each malformed part one mark."""
    if isinstance(value, tuple):
        return tuple(map(folded, value))
    if not isinstance(value, bytes):
        return value
    try:
        said = value.decode("utf-8", "surrogatepass")
        return said.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    except UnicodeDecodeError:
        return value


def echoes_beyond_the_plane(_, apache, ours, __):
    if apache.reply is None or ours.reply is None or apache.err() != 0:
        return False
    a, b = (folded((tuple(group.events), group.reply.key())) for group in (apache, ours))
    return a == b


def marks_collapsed(value):
    if isinstance(value, tuple):
        return tuple(map(marks_collapsed, value))
    if not isinstance(value, bytes):
        return value
    mark = "\ufffd".encode()
    while mark + mark in value:
        value = value.replace(mark + mark, mark)
    return value


def counts_malformed_parts(_, apache, ours, __):
    if apache.reply is None or ours.reply is None or apache.err() != 0:
        return False
    a, b = (marks_collapsed((tuple(group.events), group.reply.key())) for group in (apache, ours))
    return a == b


def write_behind_set_acl(request, apache, ours, situation):
    touched = {args["path"] for op, args in parts(request) if isinstance(args.get("path"), str)}
    touched |= {path.rpartition("/")[0] or "/" for path in touched}
    behind = any(one.op == "setACL" and one.args["path"] in touched for one in situation.before)
    return behind and (NO_AUTH in errs(apache, ours) or NO_AUTH in codes(apache) + codes(ours))


def plain_ttl_in_multi(request, apache, ours, situation):
    is_plain = request.op == "multi" and any(op == "createTTL" and args["flags"] in (0, 1, 2, 3) for op, args in request.args["ops"])
    code = BAD_ARGUMENTS if situation.config in ("extended", "reaping") else UNIMPLEMENTED
    # Both fail: the generator ends such a multi with an operation that can't succeed.
    return (is_plain and errs(apache, ours) == (0, 0) and code in codes(ours) and code not in codes(apache)[:codes(ours).index(code) + 1]
            and any(codes(apache)))


def from_servers_only(request, apache, ours, _):
    return request.op in ("createSession", "deleteContainer") and ours.err() == UNIMPLEMENTED and apache.err() != UNIMPLEMENTED


def wrong_password(request, apache, ours, _):
    """The old connection of a session whose id comes with a wrong password."""
    return request.op == "wrongPassword" and apache.err() == "closed" and ours.err() == "open"


TABLE = [
    Row("5 null in an ACL entry", "no client sends one: always -114", null_in_acl),
    Row("6 null in setWatches", "half of a request is worse than none", null_in_set_watches, drops=True),
    Row("7 negative count", "what can't be decoded is -5; Apache reads an empty list", negative_count, takes=1),
    Row("7 negative count in setWatches", "what can't be decoded is -5; Apache reads an empty list", negative_count_of_watches,
        drops=True),
    Row("8 unparsable takes a zxid", "what can't be decoded is never ordered", unparsable_takes_a_zxid, takes=1),
    Row("10 null path and odd flags", "what can't be decoded is -5 before anything is looked at", null_path_and_odd_flags, takes=1),
    Row("13 unparsable auth", "the connection is held to the limits of any other", unparsable_auth, drops=True),
    Row("14 wrong password", "a guessed id must not cut its owner off", wrong_password, drops=True),
    Row("15 beyond U+FFFF", "clients decode UTF-8, not CESU-8", echoes_beyond_the_plane),
    Row("16 malformed UTF-8", "the number of marks for malformed bytes is the decoder's", counts_malformed_parts),
    Row("17 write behind setACL", "Apache may check a pipelined write against the old list", write_behind_set_acl, ends=True),
    Row("18 plain createTTL in a multi", "a TTL operation without TTL flags is refused in a multi as it is alone", plain_ttl_in_multi),
    Row("from servers only", "-10 and 20 from a client are unknown: 20 would delete without permission", from_servers_only, takes=1,
        drops=True),
]
