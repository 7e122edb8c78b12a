"""A small client on a plain socket: every byte is ours, nothing is retried."""

import socket
import struct

CREATE, DELETE, EXISTS, GET, SET, GET_ACL, SET_ACL, CHILDREN, SYNC, PING, CHILDREN2, CHECK, MULTI, CREATE2 = (
    1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15)
MULTI_READ, AUTH, SET_WATCHES, CLOSE = 22, 100, 101, -11
CREATE_CONTAINER, DELETE_CONTAINER, CREATE_TTL = 19, 20, 21
CHECK_WATCHES, REMOVE_WATCHES, SET_WATCHES2, ADD_WATCH = 17, 18, 105, 106
NO_NODE, BAD_VERSION, NODE_EXISTS, NOT_EMPTY = -101, -103, -110, -111
STAT = struct.Struct(">qqqqiiiqiiq")


def buf(data):
    return struct.pack(">i", -1) if data is None else struct.pack(">i", len(data)) + data


def text(s):
    return buf(s.encode())


def acl(*entries):
    """An ACL of (permissions, scheme, id)."""
    packed = (struct.pack(">i", permissions) + text(scheme) + text(who) for permissions, scheme, who in entries)
    return struct.pack(">i", len(entries)) + b"".join(packed)


OPEN_ACL = acl((31, "world", "anyone"))


def create_body(path, data, flags=0, access=OPEN_ACL):
    return text(path) + buf(data) + access + struct.pack(">i", flags)


def path_body(path, watch=False):
    """exists, getData, getChildren."""
    return text(path) + (b"\1" if watch else b"\0")


def watch_body(path, number):
    """addWatch with a mode; checkWatches and removeWatches with a type."""
    return buf(path if path is None else path.encode()) + struct.pack(">i", number)


def auth_body(scheme, credential):
    return struct.pack(">i", 0) + text(scheme) + buf(credential)


def request(xid, op, body=b""):
    """The frame of a request."""
    return struct.pack(">iii", len(body) + 8, xid, op) + body


def delete_body(path, version=-1):
    return text(path) + struct.pack(">i", version)


def set_body(path, data, version=-1):
    return text(path) + buf(data) + struct.pack(">i", version)


def multi_body(ops):
    return b"".join(struct.pack(">ibi", op, 0, -1) + body for op, body in ops) + struct.pack(">ibi", -1, 1, -1)


def read_buf(data, at):
    (n,) = struct.unpack_from(">i", data, at)
    return (None, at + 4) if n < 0 else (data[at + 4:at + 4 + n], at + 4 + n)


def read_names(body):
    (count,), at, names = struct.unpack_from(">i", body), 4, []
    for _ in range(count):
        name, at = read_buf(body, at)
        names.append(name.decode())
    return names, at


def stat_at(body, at):
    fields = STAT.unpack_from(body, at)
    names = ("czxid mzxid ctime mtime version cversion aversion ephemeralOwner dataLength numChildren pzxid").split()
    return dict(zip(names, fields))


def parse_multi(body):
    """(type, error) of each result."""
    at, results = 0, []
    while True:
        kind, done, err = struct.unpack_from(">ibi", body, at)
        at += 9
        if done:
            return results
        results.append((kind, err))
        if kind == -1:
            at += 4
        elif kind in (CREATE, CREATE2):
            _, at = read_buf(body, at)
            at += STAT.size if kind == CREATE2 else 0
        elif kind == SET:
            at += STAT.size


class Closed(Exception):
    """The server closed the connection."""


class Raw:
    def __init__(self, port, timeout=30, source=None, receive_buffer=None):
        """`source`: the address to come from; `receive_buffer`: bytes, fixed before connecting."""
        self.sock = socket.socket()
        self.sock.settimeout(timeout)
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if source:
            self.sock.bind((source, 0))
        self.sock.connect(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.input = b""
        self.xid = 0
        self.session = self.password = self.timeout = None

    def send_frame(self, payload):
        self.sock.sendall(struct.pack(">i", len(payload)) + payload)

    def read_frame(self):
        while True:
            if len(self.input) >= 4:
                (n,) = struct.unpack_from(">i", self.input)
                if len(self.input) >= 4 + n:
                    frame, self.input = self.input[4:4 + n], self.input[4 + n:]
                    return frame
            try:
                more = self.sock.recv(65536)
            except ConnectionResetError:
                more = b""
            if not more:
                raise Closed()
            self.input += more

    @staticmethod
    def connect_payload(timeout=10000, session=0, password=bytes(16), seen=0, read_only_byte=True):
        payload = struct.pack(">iqiq", 0, seen, timeout, session) + buf(password)
        return payload + (b"\0" if read_only_byte else b"")

    def connect(self, **kw):
        self.send_frame(self.connect_payload(**kw))
        return self.connected()

    def connected(self):
        frame = self.read_frame()
        _, self.timeout, self.session = struct.unpack_from(">iiq", frame)
        self.password, _ = read_buf(frame, 16)
        return frame

    def ask(self, op, body=b"", xid=None):
        """Sends a request; its xid."""
        if xid is None:
            self.xid += 1
            xid = self.xid
        self.send_frame(struct.pack(">ii", xid, op) + body)
        return xid

    def reply(self):
        """(xid, zxid, err, body)."""
        frame = self.read_frame()
        return (*struct.unpack_from(">iqi", frame), frame[16:])

    def call(self, op, body=b"", xid=None):
        xid = self.ask(op, body, xid)
        answer = self.reply()
        assert answer[0] == xid, (answer, xid)
        return answer[1:]

    def ping(self):
        """A ping and its reply."""
        self.ask(PING, xid=-2)
        return self.reply()

    def close(self):
        self.sock.close()

    def reset(self):
        """Closes with RST: what was not sent or not read is thrown away."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()
