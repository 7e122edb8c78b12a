"""What a server said, with nothing but this taken out: times, session ids, passwords, zxids as such, the order of
lists that have none.

A `View` is one server's: it knows which session of the program an id is, and what a zxid of this server is called.
Zxids are called as ours calls them: Apache's are moved by what explained differences have cost so far (`Alignment`).
What does not parse is compared as it is."""

import bisect
import struct
from dataclasses import dataclass, field

import wire
import rawzk as zk


class Alignment:
    """From Apache's zxids to ours. Both begin with the same ones; each explained difference that took a zxid on one
    server alone moves what follows it."""

    def __init__(self):
        self.starts, self.moves = [0], [0]

    def ours(self, zxid):
        """Zxids that are 0 or negative mean something else than a transaction."""
        if zxid <= 0:
            return zxid
        return zxid + self.moves[bisect.bisect_right(self.starts, zxid) - 1]

    def apache(self, ours):
        """The newest of Apache's zxids that ours does not call anything newer than `ours`."""
        if ours <= 0:
            return ours
        ends = [*self.starts[1:], None]
        for start, move, end in reversed(list(zip(self.starts, self.moves, ends))):
            if ours - move >= start:
                return ours - move if end is None else min(ours - move, end - 1)
        return 0

    def moved(self, apache, ours):
        """Apache's newest zxid is ours' newest, and what follows belongs together. What is older keeps its name."""
        while self.starts and self.starts[-1] >= apache:
            self.starts.pop()
            self.moves.pop()
        self.starts.append(apache)
        self.moves.append(ours - apache)


class View:
    """`expansions`: the sets of entries that an `auth` entry may have been replaced by, whose order is the server's."""

    def __init__(self, zxid=lambda z: z, expansions=()):
        self.zxid = zxid
        self.sessions = {}
        self.expansions = expansions

    def session(self, number):
        return self.sessions.get(number, number)


@dataclass
class Reply:
    xid: int
    # As the server said it, and as ours calls it.
    raw_zxid: int
    zxid: int
    err: int
    body: tuple

    def key(self):
        return self.xid, self.zxid, self.err, self.body


@dataclass
class Group:
    """What came for one request: events, then the reply, if there was one."""
    request: object = None
    events: list = field(default_factory=list)
    reply: Reply | None = None

    def key(self):
        return tuple(self.events), self.reply and self.reply.key()

    def err(self):
        return self.reply and self.reply.err


class Reader:
    def __init__(self, data, view):
        self.data, self.at, self.view = data, 0, view

    def take(self, form):
        (value,) = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return value

    def i32(self):
        return self.take(">i")

    def buf(self):
        n = self.i32()
        if n < -1 or self.at + max(n, 0) > len(self.data):
            raise ValueError(n)
        if n == -1:
            return None
        self.at += n
        return self.data[self.at - n:self.at]

    def list(self, item):
        n = self.i32()
        if n < 0:
            return ("count", n)
        return [item() for _ in range(min(n, len(self.data)))]

    def unsorted(self, item):
        values = self.list(item)
        return tuple(sorted(values, key=repr)) if isinstance(values, list) else values

    def stat(self):
        czxid, mzxid, ctime, mtime, version, cversion, aversion, owner, length, children, pzxid = zk.STAT.unpack_from(self.data, self.at)
        self.at += zk.STAT.size
        z = self.view.zxid
        # Zero is no time: the nodes of a fresh tree have it.
        return ("stat", z(czxid), z(mzxid), ctime and "time", mtime and "time", version, cversion, aversion,
                self.view.session(owner), length, children, z(pzxid))

    def acl(self):
        entries = self.list(lambda: (self.i32(), self.buf(), self.buf()))
        return tuple(settled(entries, self.view.expansions)) if isinstance(entries, list) else entries

    def rest(self):
        return self.data[self.at:]


def settled(entries, expansions):
    """Entries that stand for one `auth` are put in order; all others stay where they are."""
    entries, n = list(entries), 0
    while n < len(entries):
        for expansion in expansions:
            part = entries[n:n + len(expansion)]
            if len(part) > 1 and set(part) == expansion:
                entries[n:n + len(expansion)] = sorted(part, key=repr)
                n += len(expansion) - 1
                break
        n += 1
    return entries


def expansions_of(acl, identities):
    """What an `auth` entry of this list becomes for a connection with these digests, also as others see it."""
    found = []
    for entry in acl if isinstance(acl, list) else ():
        if entry[1] == "auth" and len(identities) > 1:
            for known in (identities, {in_surrogates(who) for who in identities}):
                found.append({(entry[0], b"digest", who) for who in known})
                found.append({(entry[0], b"digest", who.split(b":")[0] + b":x") for who in known})
    return [one for one in found if len(one) > 1]


def in_surrogates(text):
    """A text as Java writes it: a character above U+FFFF is two surrogates of three bytes each."""
    said = ""
    for char in text.decode("utf-8", "surrogateescape"):
        above = ord(char) - 0x10000
        said += char if above < 0 else chr(0xD800 + (above >> 10)) + chr(0xDC00 + (above & 0x3FF))
    return said.encode("utf-8", "surrogatepass")


def result(r):
    """One result of a multi, and whether it was the end."""
    kind, done, err = r.i32(), r.take(">b"), r.i32()
    if done:
        return (kind, done, err), True
    said = ()
    if kind == -1:
        said = (r.i32(),)
    elif kind == wire.NUMBERS["create"]:
        said = (r.buf(),)
    elif kind in (wire.NUMBERS["create2"], wire.NUMBERS["createContainer"], wire.NUMBERS["createTTL"]):
        said = (r.buf(), r.stat())
    elif kind == wire.NUMBERS["setData"]:
        said = (r.stat(),)
    elif kind == wire.NUMBERS["getChildren"]:
        said = (r.unsorted(r.buf),)
    elif kind == wire.NUMBERS["getData"]:
        said = (r.buf(), r.stat())
    return (kind, done, err, *said), False


def results(r):
    said, is_end = [], False
    while not is_end:
        one, is_end = result(r)
        said.append(one)
    return tuple(said)


BODIES = {
    "create": lambda r: (r.buf(),),
    "create2": lambda r: (r.buf(), r.stat()),
    "createContainer": lambda r: (r.buf(), r.stat()),
    "createTTL": lambda r: (r.buf(), r.stat()),
    "exists": lambda r: (r.stat(),),
    "setData": lambda r: (r.stat(),),
    "setACL": lambda r: (r.stat(),),
    "getData": lambda r: (r.buf(), r.stat()),
    "getACL": lambda r: (r.acl(), r.stat()),
    "getChildren": lambda r: (r.unsorted(r.buf),),
    "getChildren2": lambda r: (r.unsorted(r.buf), r.stat()),
    "getEphemerals": lambda r: (r.unsorted(r.buf),),
    "getAllChildrenNumber": lambda r: (r.i32(),),
    "addWatch": lambda r: (r.i32(),),
    "sync": lambda r: (r.buf(),),
    "sasl": lambda r: (r.buf(),),
    "whoAmI": lambda r: (r.unsorted(lambda: (r.buf(), r.buf())),),
    "reconfig": lambda r: (r.buf(), r.stat()),
    "multi": lambda r: (results(r),),
    "multiRead": lambda r: (results(r),),
}


def body(op, data, view):
    if not data:
        return ()
    reader = Reader(data, view)
    try:
        said = BODIES[op](reader)
    except (KeyError, ValueError, struct.error):
        return ("as it is", data)
    rest = reader.rest()
    return (*said, ("behind", rest)) if rest else said


def event(frame, view):
    if len(frame) < 16:
        return ("as it is", frame)
    (zxid, err) = struct.unpack_from(">qi", frame, 4)
    reader = Reader(frame[16:], view)
    try:
        said = ("event", view.zxid(zxid), err, reader.i32(), reader.i32(), reader.buf())
    except (ValueError, struct.error):
        return ("event", view.zxid(zxid), err, "as it is", frame[16:])
    return (*said, ("behind", reader.rest())) if reader.rest() else said


def split(frames, requests):
    """(what came for each request as (request, events, reply), the events behind the last reply, the mark's zxid or
    None), as frames. Replies beyond the requests stand for no request."""
    made, events, mark, asked = [], [], None, list(requests)
    for frame in frames:
        xid = struct.unpack_from(">i", frame)[0] if len(frame) >= 16 else wire.EVENT_XID
        if xid == wire.EVENT_XID:
            events.append(frame)
        elif xid == wire.MARK_XID:
            (mark,) = struct.unpack_from(">q", frame, 4)
        else:
            made.append((asked.pop(0) if asked else None, events, frame))
            events = []
    return made + [(request, [], None) for request in asked], events, mark


def group(part, view):
    """One part of what `split` gives, by what zxids are called now."""
    request, events, frame = part
    made = Group(request, [event(one, view) for one in events])
    if frame is not None:
        xid, zxid, err = struct.unpack_from(">iqi", frame)
        said = body(request.op, frame[16:], view) if request else ("as it is", frame[16:])
        made.reply = Reply(xid, zxid, view.zxid(zxid), err, said)
    return made


def ordered(events):
    """Events of one transaction, neighbours by their zxid, in an order of their own: for the end of a session,
    whose nodes go in any order."""
    events, n = list(events), 0
    while n < len(events):
        m = n
        while m < len(events) and events[m][:2] == events[n][:2]:
            m += 1
        events[n:m] = sorted(events[n:m], key=repr)
        n = m
    return events


def connected(frame, view):
    """A ConnectResponse: (protocol, timeout, the session's name, the password's kind, whether and what readOnly)."""
    try:
        protocol, timeout, session = struct.unpack_from(">iiq", frame)
        password, at = zk.read_buf(frame, 16)
    except struct.error:
        return ("as it is", frame)
    kind = "zeroes" if password == bytes(16) else f"{len(password or b'')} bytes"
    return ("connected", protocol, timeout, view.session(session), kind, frame[at:])
