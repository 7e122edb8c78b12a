"""Clients whose every acknowledged write is noted, and what is held against their histories after a crash."""

import pathlib
import random
import struct
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "lib")]

import checker  # noqa: E402
import rawzk as zk  # noqa: E402

CLIENTS = 8
NODES = 30
LEAVING_MS = 300
STAYING = range(0, 5)  # re-attach after the restart
LEAVING = range(5, 7)  # never come back: their sessions must expire
CLOSING = 7            # opens and closes sessions all the time


class Client(threading.Thread):
    """Sends seeded batches and notes what was acknowledged, until the connection breaks."""

    def __init__(self, port, number, trial, seed):
        super().__init__(daemon=True)
        self.rng = random.Random(seed)
        self.number, self.trial, self.port = number, trial, port
        self.history, self.closed, self.sessions = [], set(), []
        self.made = 0
        self.failure = None
        self.open()

    def open(self):
        self.raw = zk.Raw(self.port)
        self.raw.connect(timeout=LEAVING_MS if self.number in LEAVING else 20000)
        self.sessions.append(self.raw.session)

    def operation(self):
        rng = self.rng
        own = f"/k/c{self.number}/n{rng.randrange(NODES)}"
        data = b"%d-%d-%d" % (self.trial, self.number, rng.getrandbits(60))
        base = {"client": self.number, "session": self.raw.session, "data": data, "acked": False}
        kind = rng.random()
        if kind < 0.25:
            return {**base, "kind": "create", "path": own}, zk.CREATE, zk.create_body(own, data)
        if kind < 0.60:
            return {**base, "kind": "set", "path": own}, zk.SET, zk.set_body(own, data)
        if kind < 0.75:
            return {**base, "kind": "delete", "path": own}, zk.DELETE, zk.delete_body(own)
        self.made += 1
        name = f"{self.trial}-{self.number}-{self.made}"
        if kind < 0.83:
            prefix = f"/k/s{rng.randrange(2)}/n-"
            return {**base, "kind": "create", "seq": prefix}, zk.CREATE, zk.create_body(prefix, data, 2)
        if kind < 0.91:
            path = f"/k/e/{name}"
            return {**base, "kind": "create", "path": path, "ephemeral": True}, zk.CREATE, zk.create_body(path, data, 1)
        paths = [f"/k/m/{name}-{part}" for part in "ab"]
        body = zk.multi_body([(zk.CREATE, zk.create_body(path, data)) for path in paths])
        return {**base, "kind": "multi", "paths": paths}, zk.MULTI, body

    def batch(self):
        sent = [self.operation() for _ in range(self.rng.choice((1, 4, 16)))]
        frames = b""
        first = self.raw.xid + 1
        for at, (_, op, body) in enumerate(sent):
            payload = struct.pack(">ii", first + at, op) + body
            frames += struct.pack(">i", len(payload)) + payload
        self.raw.xid += len(sent)
        self.history.extend(op for op, _, _ in sent)
        self.raw.sock.sendall(frames)
        for at, (op, _, _) in enumerate(sent):
            xid, zxid, err, body = self.raw.reply()
            assert xid == first + at, f"reply {xid}, due was {first + at}"
            if err:
                self.history.remove(op)
                continue
            op["acked"], op["zxid"] = True, zxid
            if op["kind"] == "set":
                op["version"] = zk.stat_at(body, 0)["version"]
            if op.get("seq"):
                op["path"] = zk.read_buf(body, 0)[0].decode()

    def run(self):
        try:
            while True:
                self.batch()
                if self.number == CLOSING:
                    session = self.raw.session
                    if self.raw.call(zk.CLOSE)[1] == 0:
                        self.closed.add(session)
                    self.raw.close()
                    self.open()
        except (zk.Closed, OSError):
            pass
        except BaseException as e:
            self.failure = repr(e)


def read_all(raw):
    """The whole state below /k, by pipelined reads; and the server's last zxid."""
    final = {}
    level = ["/k"]
    zxid = 0
    while level:
        below = []
        for at in range(0, len(level), 500):
            part = level[at:at + 500]
            for path in part:
                raw.ask(zk.GET, zk.text(path) + b"\0")
                raw.ask(zk.CHILDREN, zk.text(path) + b"\0")
            for path in part:
                _, _, err, body = raw.reply()
                _, zxid, gone, listed = raw.reply()
                if err or gone:
                    continue
                data, stat_at = zk.read_buf(body, 0)
                final[path] = data, zk.stat_at(body, stat_at)
                below += [f"{path}/{name}" for name in zk.read_names(listed)[0]]
        level = below
    return final, zxid


def baseline(final, sequences):
    """What is there counts as acknowledged for the next trial."""
    ops = [{"kind": "set", "client": -1, "session": 0, "path": path, "data": data, "acked": True, "zxid": stat["mzxid"],
            "version": stat["version"], "old": True, "ephemeral": bool(stat["ephemeralOwner"])}
           for path, (data, stat) in final.items()]
    return ops + list(sequences.values())


def reattach(server, client, wrong):
    raw = zk.Raw(server.port)
    raw.connect(timeout=20000, session=client.raw.session, password=client.raw.password)
    if raw.session != client.raw.session:
        wrong.append(f"live session {client.raw.session:#x} of client {client.number} was answered dead")
    return raw


def wait_for_expiry(raw, sessions):
    """Until the ephemerals of these sessions are gone; what is left after a long patience."""
    until = time.monotonic() + 20
    while True:
        final, zxid = read_all(raw)
        left = [p for p, (_, stat) in final.items() if stat["ephemeralOwner"] in sessions]
        if not left or time.monotonic() > until:
            return final, zxid, left
        time.sleep(0.02)


def fresh():
    """What is known of an empty store."""
    return {"ops": [], "sequences": {}, "sessions": set()}


def trial(server, number, seed, before, end, start):
    """One trial: load, `end(server, rng)` in the middle of it, `start(server, rng)`, and a look at what is there.
    What is wrong, and how much was acknowledged; `before` becomes the state after it."""
    rng = random.Random(seed)
    clients = [Client(server.port, n, number, rng.getrandbits(64)) for n in range(CLIENTS)]
    for client in clients:
        client.start()
    end(server, rng)
    for client in clients:
        client.join(30)
    wrong = [f"client {c.number}: {c.failure}" for c in clients if c.failure]
    wrong += [f"client {c.number} has not heard of the end of the server" for c in clients if c.is_alive()]
    start(server, rng)
    raws = [reattach(server, clients[n], wrong) for n in STAYING]
    if wrong:
        # Whoever's session is dead has no connection to read by.
        return wrong, 0
    live = {clients[n].raw.session for n in STAYING}
    leaving = {clients[n].raw.session for n in LEAVING}
    closed = clients[CLOSING].closed
    final, zxid, left = wait_for_expiry(raws[0], leaving)
    wrong += [f"{path} outlived its session" for path in left]
    sent = [op for client in clients for op in client.history]
    history = before["ops"] + sent
    wrong += checker.check(history, final, live, leaving | closed, zxid)
    reused = closed & before["sessions"] | (live | leaving) & before["sessions"]
    wrong += [f"session id {s:#x} was given twice" for s in reused]
    before["sessions"] |= {s for client in clients for s in client.sessions}
    for op in sent:
        if op["acked"] and op.get("seq"):
            parent = op["seq"].rsplit("/", 1)[0]
            if parent not in before["sequences"] or before["sequences"][parent]["zxid"] < op["zxid"]:
                before["sequences"][parent] = {**op, "old": True}
    for raw in raws:
        raw.call(zk.CLOSE)
        raw.close()
    for path in [p for p, (_, stat) in final.items() if stat["ephemeralOwner"]]:
        del final[path]
    before["ops"] = baseline(final, before["sequences"])
    return wrong, sum(op["acked"] for op in sent)


def prepare(server):
    raw = zk.Raw(server.port)
    raw.connect(timeout=20000)
    for path in ["/k", "/k/e", "/k/m", "/k/s0", "/k/s1", *(f"/k/c{n}" for n in range(CLIENTS))]:
        assert raw.call(zk.CREATE, zk.create_body(path, b""))[1] == 0
    raw.call(zk.CLOSE)
    raw.close()
