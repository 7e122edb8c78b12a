"""Requests as bytes, and a connection that collects what a server says.

Arguments of requests, by operation. A text is `str`, `bytes` (perhaps malformed UTF-8) or None, and `~` in it is the
program's subtree. An ACL list, or a list of texts, is a list, None for null, or a number for a bare count.

| Operation | Arguments |
|---|---|
| create, create2, createContainer, createTTL | path, data, acl, flags; createTTL: ttl |
| delete, check | path, version |
| exists, getData, getChildren, getChildren2 | path, watch |
| getACL, sync, getAllChildrenNumber, getEphemerals, deleteContainer | path |
| setData, setACL | path, data or acl, version |
| multi, multiRead | ops: a list of (operation, arguments); ended: whether the end is there |
| reconfig | joining, leaving, members, config |
| checkWatches, removeWatches | path, type |
| addWatch | path, mode |
| setWatches, setWatches2 | relative: a zxid by name, and lists data, exist, child; persistent, recursive |
| auth, sasl | scheme, auth; token |
| createSession | timeout |
| unknown | number |
"""

import base64
import hashlib
import pathlib
import re
import select
import struct
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))

import rawzk as zk  # noqa: E402

NUMBERS = {
    "create": 1, "delete": 2, "exists": 3, "getData": 4, "setData": 5, "getACL": 6, "setACL": 7, "getChildren": 8, "sync": 9,
    "ping": 11, "getChildren2": 12, "check": 13, "multi": 14, "create2": 15, "reconfig": 16, "checkWatches": 17,
    "removeWatches": 18, "createContainer": 19, "deleteContainer": 20, "createTTL": 21, "multiRead": 22, "auth": 100,
    "setWatches": 101, "sasl": 102, "getEphemerals": 103, "getAllChildrenNumber": 104, "setWatches2": 105, "addWatch": 106,
    "whoAmI": 107, "createSession": -10, "closeSession": -11,
}
NAMES = {number: name for name, number in NUMBERS.items()}
CREATES = ("create", "create2", "createContainer", "createTTL")
# The last request of each batch, a sync: what comes before its reply belongs to the batch.
MARK_XID = 0x6B6B6B6B
MARK = zk.request(MARK_XID, zk.SYNC, zk.text("/"))
EVENT_XID, PING_XID = -1, -2
UNKNOWN, AUTH_FAILED = -6, -115
# Seconds that a server may take for anything.
PATIENCE_S = 20.0


def text(value, root):
    if value is None:
        return zk.buf(None)
    if isinstance(value, bytes):
        return zk.buf(value.replace(b"~", root.encode()))
    return zk.text(value.replace("~", root))


def i32(value):
    return struct.pack(">i", value)


def vector(value, item):
    if value is None:
        return i32(-1)
    if isinstance(value, int):
        return i32(value)
    return i32(len(value)) + b"".join(map(item, value))


def acl(value, root):
    return vector(value, lambda entry: i32(entry[0]) + text(entry[1], root) + text(entry[2], root))


def operations(ops, ended, root):
    packed = b"".join(struct.pack(">ibi", NUMBERS.get(op, op), 0, -1) + body(op, args, root, None) for op, args in ops)
    return packed + (struct.pack(">ibi", -1, 1, -1) if ended else b"")


def body(op, a, root, zxid):
    """`zxid` gives the number that a name such as `seen` stands for on this server."""
    def said(name="path"):
        return text(a[name], root)

    if op in CREATES:
        ttl = struct.pack(">q", a["ttl"]) if op == "createTTL" else b""
        return said() + zk.buf(a["data"]) + acl(a["acl"], root) + i32(a["flags"]) + ttl
    if op in ("delete", "check"):
        return said() + i32(a["version"])
    if op in ("exists", "getData", "getChildren", "getChildren2"):
        return said() + bytes([a["watch"]])
    if op in ("getACL", "sync", "getAllChildrenNumber", "getEphemerals", "deleteContainer"):
        return said()
    if op == "setData":
        return said() + zk.buf(a["data"]) + i32(a["version"])
    if op == "setACL":
        return said() + acl(a["acl"], root) + i32(a["version"])
    if op in ("multi", "multiRead"):
        return operations(a["ops"], a.get("ended", True), root)
    if op == "reconfig":
        return said("joining") + said("leaving") + said("members") + struct.pack(">q", a["config"])
    if op in ("checkWatches", "removeWatches"):
        return said() + i32(a["type"])
    if op == "addWatch":
        return said() + i32(a["mode"])
    if op in ("setWatches", "setWatches2"):
        lists = ("data", "exist", "child") + (("persistent", "recursive") if op == "setWatches2" else ())
        packed = b"".join(vector(a[name], lambda path: text(path, root)) for name in lists)
        return struct.pack(">q", zxid(a["relative"])) + packed
    if op == "auth":
        return i32(0) + said("scheme") + zk.buf(a["auth"])
    if op == "sasl":
        return zk.buf(a["token"])
    if op == "createSession":
        return i32(a["timeout"])
    return b""


def bent(data, bend):
    if bend is None:
        return data
    kind, *how = bend
    if kind == "cut":
        return data[:min(how[0], max(0, len(data) - 1))]
    if kind == "put" and len(data) >= 4:
        at = how[0] % (len(data) - 3)
        return data[:at] + i32(how[1]) + data[at + 4:]
    return data + how[0] if kind == "tail" else data


def frame(request, xid, root, zxid):
    number = request.args["number"] if request.op == "unknown" else NUMBERS[request.op]
    return zk.request(xid, number, bent(body(request.op, request.args, root, zxid), request.bend))


class Link(zk.Raw):
    """A connection. What it gathers are whole frames; the end of the connection is no error."""

    def __init__(self, port):
        super().__init__(port, timeout=PATIENCE_S)
        self.is_closed = False

    def send(self, data):
        try:
            self.sock.sendall(data)
        except OSError:
            # What was received before can still be read; the end shows there.
            pass

    def whole_frames(self):
        frames, at = [], 0
        while len(self.input) - at >= 4:
            (n,) = struct.unpack_from(">i", self.input, at)
            if len(self.input) - at < 4 + n:
                break
            frames.append(self.input[at + 4:at + 4 + n])
            at += 4 + n
        self.input = self.input[at:]
        return frames

    def receive(self, seconds):
        """More bytes within so many seconds; False if there are none, because of the clock or of the end."""
        if self.is_closed or not select.select([self.sock], [], [], max(0, seconds))[0]:
            return False
        try:
            more = self.sock.recv(1 << 18)
        except OSError:
            more = b""
        if not more:
            self.is_closed = True
            return False
        self.input += more
        return True

    def gather(self, is_last, seconds=PATIENCE_S):
        """(frames, whether the last one came): up to the frame that is the last, the end or the clock."""
        frames, until = [], time.monotonic() + seconds
        while True:
            fresh = self.whole_frames()
            for n, one in enumerate(fresh):
                frames.append(one)
                if is_last(one):
                    # What follows, if anything, comes first the next time.
                    self.input = b"".join(struct.pack(">i", len(f)) + f for f in fresh[n + 1:]) + self.input
                    return frames, True
            if not self.receive(until - time.monotonic()):
                return frames, False

    def ends(self, seconds):
        """Whether the connection ends within so many seconds; what comes before stays to be gathered."""
        until = time.monotonic() + seconds
        while self.receive(until - time.monotonic()):
            pass
        return self.is_closed


def is_mark(one):
    return len(one) >= 16 and struct.unpack_from(">i", one)[0] == MARK_XID


def is_reply(one):
    return len(one) >= 16 and struct.unpack_from(">i", one)[0] != EVENT_XID


def is_success(one):
    return is_reply(one) and one[12:16] == bytes(4)


def is_last(one):
    """Whether the server ends the connection behind it: a failed auth, or an operation that does not exist."""
    _, zxid, err = struct.unpack_from(">iqi", one) if is_reply(one) else (0, 0, 0)
    return err == AUTH_FAILED or (zxid, err) == (-1, UNKNOWN)


def digest(credential):
    """The id of scheme digest that auth with these bytes gives, which Java reads as a text: a surrogate is one mark."""
    said = re.sub(rb"\xed[\xa0-\xbf][\x80-\xbf]?", "\ufffd".encode(), credential).decode("utf-8", "replace").encode()
    hashed = base64.b64encode(hashlib.sha1(said).digest())
    return said.split(b":")[0] + b":" + hashed
