"""One of the two servers as a program sees it: connections and sessions by slot, and an observer of its own.

The observer is a session that no program touches. Its mark says which zxid the server has come to, and in the end it
reads the whole subtree, as a super user."""

import struct

import rawzk as zk
import wire
from servers import SUPER, TIMEOUT_MAX

OBSERVER = "observer"
# An id that no server gives.
UNKNOWN_SESSION = 0x1234567


class Side:
    """`before`: from a zxid of this side to the one that stands before it."""

    def __init__(self, name, server, before=lambda zxid: zxid - 1):
        self.name, self.server, self.before = name, server, before
        self.observer, self.observer_session = None, None
        # The newest zxid that the observer has seen, and the one at which the program began.
        self.newest = self.start = 0
        self.made = []
        self.forget()

    def forget(self):
        # By slot: connection; (id, password) of a session, None when it is known to be gone; the newest zxid seen on the
        # connection, and that of the connection before.
        self.links, self.sessions, self.latest, self.seen = {}, {}, {}, {}
        # Connections of the program: each is closed with it, wherever it ended.
        for one in self.made:
            if one is not self.observer:
                one.close()
        self.made = []

    def link(self):
        """A new connection."""
        one = wire.Link(self.server.port)
        self.made.append(one)
        return one

    def observe(self, is_super=True):
        """A connection of the observer, whose session outlives the server: a second one would expire in the middle
        of another program."""
        session, password = self.observer_session or (0, bytes(16))
        self.observer = self.link()
        self.observer.connect(timeout=TIMEOUT_MAX, session=session, password=password)
        self.observer_session = self.observer.session, self.observer.password
        if is_super:
            self.observer.call(zk.AUTH, zk.auth_body("digest", SUPER), xid=-4)

    def mark(self):
        """The observer's mark: the newest zxid."""
        self.observer.send(wire.MARK)
        frames, _ = self.observer.gather(wire.is_mark)
        if not frames or not wire.is_mark(frames[-1]):
            raise ConnectionError(f"the observer of {self.name} gets no answer")
        (self.newest,) = struct.unpack_from(">q", frames[-1], 4)
        return self.newest

    def zxid(self, slot, name):
        """What the name of a zxid stands for here."""
        seen = self.seen.get(slot, self.start)
        return {"zero": 0, "minus": -1, "start": self.start, "seen": seen, "before": max(0, self.before(seen)), "newest": self.newest,
                "ahead": self.newest + 1000, "max": (1 << 63) - 1}[name]

    def handshake(self, slot, args):
        """The payload of a ConnectRequest."""
        session, right = self.sessions.get(slot) or (0, bytes(16))
        if args.get("session") == "unknown":
            session = UNKNOWN_SESSION
        elif args.get("session", "new") == "new":
            session, right = 0, bytes(16)
        password = {"right": right, "wrong": right[:-1] + bytes([right[-1] ^ 1]), "zeroes": bytes(16), "short": b"abc", "null": None,
                    "empty": b"", "long": bytes(40)}[args.get("password", "right")]
        payload = struct.pack(">iqiq", args.get("protocol", 0), self.zxid(slot, args.get("seen", "zero")), args["timeout"], session)
        read_only = args.get("readOnly")
        return payload + zk.buf(password) + (b"" if read_only is None else bytes([read_only]))

    def end_link(self, slot, with_reset=False):
        link = self.links.pop(slot, None)
        if link:
            self.seen[slot] = self.latest.get(slot, self.start)
            link.reset() if with_reset else link.close()

    def close(self):
        self.forget()
        self.observer.close()

    def sweep(self, root):
        """Ends every session of the program and removes its nodes, as far as that can be done, and compares nothing:
        after a difference."""
        for slot, session in list(self.sessions.items()):
            self.end_link(slot)
            if session:
                self.close_session(*session)
        nodes, n = [root, "/zookeeper/quota" + root], 0
        while n < len(nodes):
            err, body = self.ask(zk.CHILDREN, zk.path_body(nodes[n]))
            nodes += [f"{nodes[n]}/{name}" for name in zk.read_names(body)[0]] if err == 0 else []
            n += 1
        for path in reversed(nodes):
            self.ask(zk.DELETE, zk.delete_body(path))
        self.forget()

    def close_session(self, session, password):
        link = self.link()
        try:
            link.connect(timeout=TIMEOUT_MAX, session=session, password=password)
            link.ask(zk.CLOSE)
            link.ends(2)
        except (zk.Closed, OSError):
            pass
        link.close()

    def ask(self, op, body):
        _, err, answer = self.observer.call(op, body)
        return err, answer
