"""A small server in memory for the tests of this directory: enough of the protocol to run a program on two of them, and
a bug that can be planted in one. It is no ZooKeeper."""

import contextlib
import selectors
import socket
import struct
import threading
import time

import wire
from wire import zk

NO_NODE, EXISTS, NOT_EMPTY, UNKNOWN = -101, -110, -111, -6
NAMES = {number: name for name, number in wire.NUMBERS.items()}


class Node:
    def __init__(self, data, acl, zxid, owner):
        self.data, self.acl, self.owner = data, acl, owner
        self.czxid = self.mzxid = self.pzxid = zxid
        self.version = self.created = self.deleted = 0


class Toy:
    """`bug` is one of the words in the code below. `name`: for messages."""

    def __init__(self, name, bug=None, first_session=1000):
        self.name, self.bug, self.sessions_given = name, bug, first_session
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.clear()
        self.is_ending = False
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    # The part of subprocess.Popen that is looked at.
    @property
    def process(self):
        return self

    def poll(self):
        return None

    def clear(self):
        self.nodes = {path: Node(b"", zk.OPEN_ACL, 0, 0) for path in ("/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config")}
        self.zxid, self.sessions, self.watches, self.attached = 0, {}, {}, {}

    def close(self):
        self.is_ending = True
        self.thread.join()

    def serve(self):
        with self.listener, selectors.DefaultSelector() as ready:
            ready.register(self.listener, selectors.EVENT_READ, None)
            while not self.is_ending:
                for key, _ in ready.select(0.01):
                    if key.data is None:
                        sock, _ = self.listener.accept()
                        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                        ready.register(sock, selectors.EVENT_READ, {"sock": sock, "input": b"", "session": None})
                    elif not self.readable(key.data):
                        ready.unregister(key.fileobj)
                        key.fileobj.close()
                self.expire()
            for key in list(ready.get_map().values()):
                key.fileobj.close()

    def readable(self, client):
        try:
            more = client["sock"].recv(65536)
        except OSError:
            more = b""
        client["input"] += more
        while len(client["input"]) >= 4:
            (n,) = struct.unpack_from(">i", client["input"])
            if not 8 <= n <= 1 << 20:
                return False
            if len(client["input"]) < 4 + n:
                break
            frame, client["input"] = client["input"][4:4 + n], client["input"][4 + n:]
            if not (self.request if client["session"] else self.hello)(client, frame):
                return False
        return bool(more)

    def say(self, client, payload):
        with contextlib.suppress(OSError):
            client["sock"].sendall(struct.pack(">i", len(payload)) + payload)

    def hello(self, client, frame):
        _, _, timeout, session = struct.unpack_from(">iqiq", frame)
        password, at = zk.read_buf(frame, 24)
        if session == 0:
            self.sessions_given += 1
            session = self.sessions_given
            self.zxid += 1
        elif session not in self.sessions or password != struct.pack(">qq", session, session):
            self.say(client, struct.pack(">iiq", 0, 0, 0) + zk.buf(bytes(16)) + frame[at:at + 1])
            return False
        self.part(session)
        client["session"], self.attached[session] = session, client
        self.sessions[session] = [timeout / 1000, time.monotonic()]
        self.say(client, struct.pack(">iiq", 0, timeout, session) + zk.buf(struct.pack(">qq", session, session)) + frame[at:at + 1])
        return True

    def part(self, session):
        """The end of the connection that holds the session."""
        if session in self.attached:
            with contextlib.suppress(OSError):
                self.attached.pop(session)["sock"].shutdown(socket.SHUT_RDWR)

    def expire(self):
        for session, (timeout, heard) in list(self.sessions.items()):
            if time.monotonic() > heard + timeout:
                self.part(session)
                self.end(session)

    def end(self, session):
        self.sessions.pop(session, None)
        self.zxid += 1
        for path in [path for path, node in self.nodes.items() if node.owner == session]:
            self.remove(path)

    def remove(self, path):
        parent = self.nodes[parent_of(path)]
        del self.nodes[path]
        parent.deleted, parent.pzxid = parent.deleted + 1, self.zxid
        self.fire(path, 2)

    def fire(self, path, kind):
        for client in self.watches.pop(path, []):
            if not (self.bug == "no event of a delete" and kind == 2):
                self.say(client, struct.pack(">iqiii", -1, self.zxid, 0, kind, 3) + zk.text(path))

    def stat(self, path):
        node = self.nodes[path]
        children = self.children(path)
        return zk.STAT.pack(node.czxid, node.mzxid, bool(node.czxid), bool(node.czxid), node.version, node.created + node.deleted, 0,
                            node.owner, len(node.data or b""), len(children), node.pzxid)

    def children(self, path):
        return [other.rpartition("/")[2] for other in self.nodes if other != "/" and parent_of(other) == path]

    def request(self, client, frame):
        xid, number = struct.unpack_from(">ii", frame)
        if client["session"] not in self.sessions:
            return False
        self.sessions[client["session"]][1] = time.monotonic()
        op = NAMES.get(number, "unknown")
        answer = getattr(self, op, None)
        if answer is None:
            self.say(client, struct.pack(">iqi", xid, -1, UNKNOWN))
            return False
        try:
            err, body = answer(client, frame[8:])
        except (struct.error, AttributeError, IndexError):
            err, body = -5, b""
        self.say(client, struct.pack(">iqi", -2 if op == "ping" else xid, 0 if op == "auth" else self.zxid, err) + body)
        return op != "closeSession"

    def create(self, client, body):
        raw, at = zk.read_buf(body, 0)
        data, at = zk.read_buf(body, at)
        path, acl, (flags,) = raw.decode(), body[at:-4], struct.unpack(">i", body[-4:])
        self.zxid += 1
        if self.bug == "a zxid too many" and data == b"twice":
            self.zxid += 1
        if parent_of(path) not in self.nodes:
            return NO_NODE, b""
        if path in self.nodes:
            return EXISTS, b""
        parent = self.nodes[parent_of(path)]
        self.nodes[path] = Node(data, acl, self.zxid, client["session"] if flags & 1 else 0)
        parent.created, parent.pzxid = parent.created + 1, self.zxid
        self.fire(path, 1)
        return 0, zk.text(path)

    def delete(self, _, body):
        raw, _ = zk.read_buf(body, 0)
        path = raw.decode()
        self.zxid += 1
        if path not in self.nodes:
            return NO_NODE, b""
        if self.children(path):
            return NOT_EMPTY, b""
        self.remove(path)
        return 0, b""

    def setData(self, _, body):
        raw, at = zk.read_buf(body, 0)
        path = raw.decode()
        self.zxid += 1
        if path not in self.nodes:
            return NO_NODE, b""
        node = self.nodes[path]
        node.data = zk.read_buf(body, at)[0]
        node.mzxid = self.zxid
        node.version += 0 if self.bug == "a version too few" and node.data == b"" else 1
        self.fire(path, 3)
        return 0, self.stat(path)

    def read(self, client, body, said):
        raw, at = zk.read_buf(body, 0)
        path = raw.decode()
        if path not in self.nodes:
            return NO_NODE, b""
        if body[at:at + 1] == b"\1" and client not in self.watches.setdefault(path, []):
            self.watches[path].append(client)
        return 0, said(path)

    def exists(self, client, body):
        return self.read(client, body, self.stat)

    def getData(self, client, body):
        return self.read(client, body, lambda path: zk.buf(self.nodes[path].data) + self.stat(path))

    def getACL(self, client, body):
        return self.read(client, body, lambda path: self.nodes[path].acl + self.stat(path))

    def getChildren2(self, client, body):
        return self.read(client, body, lambda path: struct.pack(">i", len(self.children(path))) + b"".join(
            map(zk.text, self.children(path))) + self.stat(path))

    def sync(self, _, body):
        return 0, body

    def ping(self, *_):
        return 0, b""

    auth = ping

    def closeSession(self, client, _):
        self.end(client["session"])
        return 0, b""


class Toys:
    """What servers.Servers offers."""

    def __init__(self, bug=None):
        self.config = "default"
        self.apache, self.ours = Toy("apache"), Toy("ours", bug, first_session=5000)

    def both(self):
        return self.apache, self.ours

    def restart(self):
        pass

    def fresh(self):
        self.apache.clear()
        self.ours.clear()

    def close(self):
        self.apache.close()
        self.ours.close()


def parent_of(path):
    return path.rpartition("/")[0] or "/"
