"""Programs from a seed: a random one for most numbers, and for every fourth one that goes for rare cells (directed.py).

A random program is given its own weights, so that some are nearly all multis and others nearly all watches. The
generator keeps an idea of which nodes are there, to hit them often; it need not be right.

What would stop Apache's server for good is never made (docs/protocol.md §10): a createTTL without TTL flags and with
ttl -1 where TTLs are on, limits directly below /zookeeper/quota, garbage in a quota's statistics. Nor is an ACL that
would close a node which other programs need, or anything whose outcome depends on a race: requests that Apache
answers ahead of others are alone; little is sent behind a setACL; a hard quota, which is held against what is applied,
sees one write of a batch; and nothing is behind a createContainer with ephemeral flags, which Apache takes for an
ephemeral node until it is applied."""

import random
import struct

import directed
import wire
from program import Program, Request, Step

CONFIGS = ("default", "quota", "extended", "local", "reconfig", "default", "extended", "quota")
# Of so many programs one is directed; the configuration `reaping` has no others.
DIRECTED_EACH = 4
# What changes the totals of a quota, or may be refused by one.
WRITES = ("create", "create2", "createContainer", "createTTL", "delete", "setData", "multi")
NAMES = ("a", "b", "c")
NODES = ["~", *(f"~/{one}" for one in NAMES), *(f"~/{one}/{two}" for one in NAMES for two in "xy"), "~/a/x/k", "~/e", "~/e/x"]
SEQUENCES = [f"~/a/s{n:010}" for n in range(3)] + [f"~/s{n:010}" for n in range(4)]
RESERVED = ["/", "", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"]
ODD = [None, "~/", "~//a", "~/a/", "~/./a", "~/..", "~/a\0b", "~/a\x01", "~/\x7f", "~/\ue000", "~/\ufffd", "~/\u00e9", "~/a b",
       "~/...", "~/\U0001f600", b"~/\xed\xa0\x80", b"~/\xff", "nowhere", "~/" + "l" * 300, "~/\ufdd0", "~/\u00a0"]
USERS = [b"u1:p1", b"u2:p2", b"u3:p3", b"nobody", b":p", b"u4:p:q"]
IDS = [wire.digest(user).decode() for user in USERS]
OPEN = [(31, "world", "anyone")]
LISTS = [
    OPEN, OPEN, OPEN, OPEN, [(31, "auth", "")], [(31, "auth", "")], [(31, "digest", IDS[0])],
    [(31, "digest", IDS[1]), (1, "world", "anyone")],
    [(1, "world", "anyone")], [(30, "world", "anyone")], [(0, "world", "anyone")], [(12, "world", "anyone"), (31, "digest", IDS[0])],
    [(31, "ip", "127.0.0.1")], [(31, "ip", "127.0.0.0/8")], [(31, "ip", "10.0.0.1")], [(31, "ip", "127.0.0.1/0"), (3, "digest", IDS[2])],
    [(16, "world", "anyone")], [(27, "world", "anyone")], [(23, "world", "anyone")],
]
ODD_LISTS = [
    [], None, [(31, "world", "nobody")], [(31, "digest", "ab")], [(31, "digest", "a:b:c")], [(31, "digest", "a:")],
    [(31, "digest", ":b")],
    [(31, "digest", "u:h:")], [(31, "digest", "u:h::")], [(31, "digest", "::")], [(31, "ip", "127.0.0.01")],
    [(31, "ip", "010.001.002.003")],
    [(31, "ip", "1.2.3.4/-0")], [(31, "ip", "1.2.3.4/+8")], [(31, "ip", "1.2.3.4/33")], [(31, "ip", "1.2.3")], [(31, "ip", "1.2.3.256")],
    [(31, "ip", "::1")], [(31, "ip", "fe80::1/64")], [(31, "ip", "::1/129")], [(31, "ip", "::ffff:127.0.0.1")], [(31, "ip", "")],
    [(31, "sasl", "bob")], [(31, "x509", "CN=a")], [(31, "super", "")], [(31, "nothing", "x")], [(31, "", "x")], [(31, None, "x")],
    [(31, "world", None)], [(31, "digest", None)], [(31, "ip", None)], [(31, "auth", None)], [(31, "world", "anyone"), (31, None, "x")],
    [(31, "world", "anyone")] * 2, [(1, "world", "anyone"), (31, "world", "anyone")], [(31, "auth", ""), (31, "digest", IDS[0])],
    [(31, "auth", ""), (31, "auth", "x")], [(31, "auth", ""), (1, "auth", "")], [(64, "world", "anyone")], [(-1, "world", "anyone")],
    -2, [(31, "digest", "\U0001f600:h")], [(31, "digest", b"\xed\xb0\x80:\xed\xa0")], [(31, "digest", f"u{n}:h") for n in range(40)],
    [(31, "digest", IDS[0]), (31, "digest", IDS[1])],
]
DATA = [None, b"", b"x", b"hello", b"0123456789" * 3, bytes(range(256)) * 8]
VERSIONS = [-1, -1, -1, -1, 0, 0, 1, 2, -2, 7]
FLAGS = [0, 0, 0, 0, 1, 1, 2, 3]
ODD_FLAGS = [4, 5, 6, 7, -1, 8, 100]
TTLS = [1, 1000, 100_000, (1 << 40) - 1, 1 << 40, 0, -5]
WEIRD_XIDS = [0, -9, 2**31 - 1, -2**31]
PUTS = [2**31 - 1, -1, -2, 0, 1, 5, 1 << 20]
# A body may be cut anywhere; four bytes of it are overwritten only where no list, ACL or TTL may come of it.
PUT_INTO = ("delete", "exists", "getData", "setData", "getChildren", "getChildren2", "sync", "checkWatches", "removeWatches",
            "getEphemerals")

# Kinds of requests and how often they come, before a program's own weights.
KINDS = {"create": 14, "create2": 6, "createContainer": 2, "createTTL": 2, "delete": 8, "exists": 6, "getData": 7, "setData": 10,
         "getACL": 3, "setACL": 4, "getChildren": 4, "getChildren2": 5, "sync": 1, "ping": 1, "multi": 9, "multiRead": 3,
         "reconfig": 1, "checkWatches": 2, "removeWatches": 3, "setWatches": 3, "setWatches2": 3, "getEphemerals": 2,
         "getAllChildrenNumber": 2, "addWatch": 5, "whoAmI": 1, "auth": 3, "sasl": 0.4, "check": 0.4, "unknown": 0.4,
         "createSession": 0.1, "deleteContainer": 0.2, "quota": 2}


def program(seed, number, without=()):
    """`without`: operations to leave out, for a server that does not have them yet."""
    rng = random.Random(f"{seed}:{number}")
    if number % DIRECTED_EACH == DIRECTED_EACH - 1:
        config, steps = directed.steps(rng, number // DIRECTED_EACH)
        return left_out(Program(seed, number, config, tuple(steps)), without)
    # The how manieth random one it is, so that every configuration has its turn.
    config = CONFIGS[(number - number // DIRECTED_EACH) % len(CONFIGS)]
    return left_out(Program(seed, number, config, tuple(Maker(rng, config).steps())), without)


def left_out(made, without):
    """The same program without some operations, also inside multis, or steps. `quota` leaves out what is below
    /zookeeper/quota, `super` that anybody becomes a super user."""
    if not without:
        return made

    def is_kept(op, args):
        path = args.get("path")
        is_quota = isinstance(path, str) and path.startswith("/zookeeper/quota~")
        is_super = args.get("auth") == b"super:secret"
        return op not in without and not (is_quota and "quota" in without) and not (is_super and "super" in without)

    def part(request):
        ops = [one for one in request.args["ops"] if is_kept(*one)]
        return Request(request.op, {**request.args, "ops": ops}, request.xid, request.bend)

    steps = []
    for step in made.steps:
        if step.do not in without:
            kept = [part(one) if "ops" in one.args else one for one in step.requests if is_kept(one.op, one.args)]
            steps.append(Step(step.do, step.slot, step.args, tuple(kept)))
    return Program(made.seed, made.number, made.config, tuple(steps))


class Maker:
    def __init__(self, rng, config):
        self.rng, self.config = rng, config
        self.there = ["~"]
        self.slots = rng.choice([1, 2, 2, 3, 3, 4])
        self.weights = {kind: weight * rng.choice([0.2, 1, 1, 1, 4]) for kind, weight in KINDS.items()}
        if config == "quota":
            self.weights["quota"] *= 5
        self.oddness = rng.choice([0.01, 0.03, 0.03, 0.08])
        # Which slots have a connection, and which a session.
        self.open, self.alive = set(), set()

    def steps(self):
        made = [self.connect(0)]
        if self.rng.random() < 0.5:
            made.append(Step("send", 0, {}, tuple(self.create(path) for path in self.rng.sample(NODES[1:9], 5))))
        for _ in range(self.rng.randint(22, 42)):
            made += self.next()
        if self.rng.random() < 0.08:
            made += self.expiry()
        if self.rng.random() < 0.03:
            made += [Step("restart")]
            self.open.clear()
            made += [one for slot in sorted(self.alive) for one in self.return_to(slot)]
        return made

    def next(self):
        rng = self.rng
        idle = [slot for slot in range(self.slots) if slot not in self.open]
        kind = rng.random()
        if idle and (kind < 0.08 or not self.open):
            slot = rng.choice(idle)
            return self.return_to(slot) if slot in self.alive else [self.connect(slot)]
        slot = rng.choice(sorted(self.open))
        if kind < 0.10:
            self.open.discard(slot)
            return [Step("drop", slot, {"reset": True} if rng.random() < 0.3 else {})]
        if kind < 0.13:
            return self.steal(slot)
        if kind < 0.15:
            self.open.discard(slot)
            self.alive.discard(slot)
            return [Step("send", slot, {}, (Request("closeSession"),))]
        if kind < 0.155:
            self.open.discard(slot)
            return [Step("frame", slot, {"data": rng.choice(FRAMES)})]
        if kind < 0.165:
            return [Step("handshake", 0, {"data": rng.choice(HANDSHAKES)})]
        return [self.send(slot)]

    # Sessions.

    def connect(self, slot):
        self.open.add(slot)
        self.alive.add(slot)
        rng = self.rng
        args = {"timeout": rng.choice([30_000, 60_000, 60_000, 2_000_000]), "readOnly": rng.choice([0, 0, 0, None, 1]),
                "password": rng.choice(["zeroes"] * 5 + ["null", "empty", "long", "short"])}
        args.update({"protocol": 3} if rng.random() < 0.05 else {}, **({"seen": "newest"} if rng.random() < 0.2 else {}))
        return Step("connect", slot, {**args}, tuple(self.batch(rng.randint(0, 4), behind_connect=True)))

    def return_to(self, slot):
        """The session on a new connection, often with the watches that it had."""
        rng = self.rng
        self.open.add(slot)
        more = [Request("auth", {"scheme": "digest", "auth": rng.choice(USERS)})] if rng.random() < 0.3 else []
        if rng.random() < 0.6:
            more.append(self.set_watches(rng.choice(["setWatches", "setWatches2"]), is_plain=True))
        args = {"session": "own", "timeout": rng.choice([30_000, 60_000]), "readOnly": rng.choice([0, None]),
                "seen": rng.choice(["zero", "seen", "newest"]), "piped": rng.random() < 0.5}
        return [Step("reattach", slot, args, (*more, *self.batch(rng.randint(0, 3), behind_connect=True)))]

    def steal(self, slot):
        rng = self.rng
        kind = rng.random()
        args = {"session": "own", "timeout": 60_000, "readOnly": 0}
        if kind < 0.45:
            return self.return_to(slot)
        if kind < 0.6:
            self.open.discard(slot)
            return [Step("reattach", slot, {**args, "password": rng.choice(["wrong", "zeroes", "short", "null"])})]
        if kind < 0.7:
            return [Step("reattach", slot, {**args, "seen": rng.choice(["ahead", "max"])})]
        if kind < 0.8:
            return [Step("reattach", slot, {**args, "session": "unknown"})]
        self.open.discard(slot)
        return [Step("drop", slot), *self.return_to(slot)]

    def expiry(self):
        slot = self.rng.choice(sorted(self.alive)) if self.alive else 0
        self.open.discard(slot)
        self.alive.discard(slot)
        return [Step("expire", slot, {"open": True} if self.rng.random() < 0.5 else {}),
                *([Step("reattach", slot, {"session": "own", "timeout": 60_000, "readOnly": 0})] if self.rng.random() < 0.5 else [])]

    # Requests.

    def send(self, slot):
        requests = self.batch(self.rng.choice([1, 1, 2, 3, 4, 5, 6, 8]))
        if any(may_end(request) for request in requests):
            self.open.discard(slot)
        return Step("send", slot, {}, tuple(requests))

    def batch(self, n, behind_connect=False):
        """What must be alone stays alone, and a setACL ends a batch."""
        made = []
        while len(made) < n:
            request = self.request()
            if request.is_alone():
                if not made and not behind_connect:
                    return [request]
                continue
            if self.config == "quota" and request.op in WRITES and any(one.op in WRITES for one in made):
                continue
            made.append(request)
            if request.op == "setACL" or is_half_done(request) or is_ephemeral_container(request):
                break
        return made

    def request(self):
        rng = self.rng
        op = rng.choices(list(self.weights), list(self.weights.values()))[0]
        if op in ("create", "create2", "createContainer", "createTTL"):
            made = self.create(op=op)
        else:
            made = Request(op, self.args(op)) if op != "quota" else self.quota()
        if rng.random() < self.oddness:
            made = self.bent(made)
        if rng.random() < 0.01 and not made.is_alone():
            made = Request(made.op, made.args, rng.choice(WEIRD_XIDS), made.bend)
        return made

    def bent(self, made):
        rng = self.rng
        if made.op in ("createSession", "deleteContainer", "closeSession", "unknown", "check", "sasl"):
            return made
        kind = rng.random()
        if kind < 0.5:
            return Request(made.op, made.args, made.xid, ("cut", rng.choice([0, 1, 3, 4, 7, 8, 12, 20, 40])))
        is_quota = str(made.args.get("path")).startswith("/zookeeper/quota")
        if kind < 0.7 or made.op not in PUT_INTO or is_quota:
            return Request(made.op, made.args, made.xid, ("tail", b"\0\1\2\3"))
        return Request(made.op, made.args, made.xid, ("put", rng.randint(0, 60), rng.choice(PUTS)))

    def path(self, with_reserved=True):
        rng, kind = self.rng, self.rng.random()
        if kind < self.oddness:
            return rng.choice(ODD)
        if kind < 2 * self.oddness and with_reserved:
            return rng.choice(RESERVED)
        if kind < 0.75:
            return rng.choice(self.there)
        return rng.choice(NODES + SEQUENCES)

    def acl(self):
        return self.rng.choice(ODD_LISTS if self.rng.random() < self.oddness else LISTS)

    def data(self):
        return self.rng.choice(DATA)

    def version(self):
        return self.rng.choice(VERSIONS)

    def create(self, path=None, op=None):
        rng = self.rng
        op = op or rng.choice(["create", "create2"])
        path = path or (self.path() if rng.random() < 0.4 else rng.choice(NODES + ["~/s", "~/a/s"]))
        flags = rng.choice(ODD_FLAGS if rng.random() < self.oddness else FLAGS)
        args = {"path": path, "data": self.data(), "acl": self.acl(), "flags": flags}
        if op == "createContainer" and rng.random() < 0.8:
            args["flags"] = 4
        if op == "createTTL":
            args["flags"] = rng.choice([5, 5, 6]) if rng.random() < 0.9 else 0
            args["ttl"] = rng.choice(TTLS[:4]) if rng.random() < 0.8 or args["flags"] == 0 else rng.choice(TTLS)
        if path in RESERVED or path in ("~", None):
            # A sequential node there would outlive the program.
            args["flags"] = {2: 0, 3: 1, 6: 5}.get(args["flags"], args["flags"])
        if isinstance(path, str) and path.startswith("~") and path in NODES and path not in self.there:
            self.there.append(path)
        return Request(op, args)

    def quota(self):
        """A quota on ~/a or ~/b, its change, or its end; and data that is large for it."""
        rng = self.rng
        where = "/zookeeper/quota~" + rng.choice(["", "/a", "/b"])
        limits = rng.choice([b"count=3,bytes=20", b"count=-1,bytes=-1=;byteHardLimit=40;countHardLimit=-1",
                             b"count=5,bytes=10=;byteHardLimit=30;countHardLimit=4",
                             b"count=-1,bytes=-1=;byteHardLimit=-1;countHardLimit=3", b""])
        if rng.random() < 0.02:
            limits = None
        kind = rng.random()
        if kind < 0.35:
            ops = [("create", {"path": path, "data": b"", "acl": OPEN, "flags": 0}) for path in ("/zookeeper/quota~", where)
                   if path != "/zookeeper/quota~" or where == path or kind < 0.2]
            ops += [("create", {"path": f"{where}/zookeeper_{name}", "data": data, "acl": OPEN, "flags": 0})
                    for name, data in (("limits", limits), ("stats", b"count=0,bytes=0"))]
            return Request("multi", {"ops": ops})
        if kind < 0.5:
            return Request("create",
                           {"path": rng.choice([where, where + "/zookeeper_limits", where + "/zookeeper_stats"]), "data": limits,
                            "acl": OPEN, "flags": 0})
        if kind < 0.6:
            return Request("delete", {"path": where + rng.choice(["/zookeeper_limits", "/zookeeper_stats", ""]), "version": -1})
        if kind < 0.7:
            return Request("setData", {"path": where + "/zookeeper_limits", "data": limits, "version": -1})
        if kind < 0.85:
            return Request("getData", {"path": where + "/zookeeper_stats", "watch": rng.randint(0, 1)})
        return Request("setData", {"path": rng.choice(["~/a", "~/b", "~"]), "data": b"q" * rng.choice([0, 5, 15, 35]), "version": -1})

    def paths(self):
        rng = self.rng
        if rng.random() < self.oddness:
            return rng.choice([None, -2, ["~/a", None, "~/b"], ["~/\U0001f600"], [b"~/\xed\xa0\x80"], []])
        return [self.path() for _ in range(rng.choice([0, 0, 1, 1, 2, 4]))]

    def set_watches(self, op, is_plain=False):
        rng = self.rng
        relative = "seen" if is_plain else rng.choice(["zero", "seen", "before", "start", "newest", "ahead", "minus"])
        lists = ("data", "exist", "child") + (("persistent", "recursive") if op == "setWatches2" else ())
        paths = {name: rng.sample(NODES, rng.randint(0, 3)) if is_plain else self.paths() for name in lists}
        return Request(op, {"relative": relative, **paths}, xid=-8)

    def sub(self):
        """One operation of a multi."""
        rng = self.rng
        op = rng.choice(["create", "create", "create2", "createContainer", "createTTL", "delete", "setData", "setData", "check"])
        if op.startswith("create"):
            args = self.create(op=op).args
            if op == "createContainer":
                # Apache takes it for an ephemeral node while the multi lasts.
                args["flags"] &= ~1
            if op == "createTTL":
                args["flags"] = rng.choice([5, 6])
                if args["path"] in RESERVED or args["path"] in ("~", None):
                    args["flags"] = 5
            return op, args
        args = self.args(op)
        if op == "delete" and args["path"] in self.there and rng.random() < 0.5:
            args["path"] = rng.choice(NODES)
        return op, args

    def multi(self):
        rng = self.rng
        ops = [self.sub() for _ in range(rng.choice([0, 1, 1, 2, 2, 3, 4, 6, 12]))]
        if rng.random() < self.oddness:
            ops.insert(rng.randint(0, len(ops)), rng.choice([
                ("getData", {"path": "~/a", "watch": 0}), ("setACL", {"path": "~/a", "acl": OPEN, "version": -1}),
                ("sync", {"path": "~"}),
                ("createTTL", {"path": "~/t", "data": b"", "acl": OPEN, "flags": 0, "ttl": 1000})]))
            if any(op == "createTTL" and args["flags"] == 0 for op, args in ops):
                ops.append(("check", {"path": "~/never", "version": 3}))
        return {"ops": ops, **({"ended": False} if rng.random() < self.oddness / 2 else {})}

    def args(self, op):
        rng = self.rng
        if op in ("exists", "getData", "getChildren", "getChildren2"):
            return {"path": self.path(), "watch": rng.choice([0, 0, 1, 1, 1, 7])}
        if op in ("getACL", "sync", "getAllChildrenNumber"):
            return {"path": self.path()}
        if op == "getEphemerals":
            return {"path": rng.choice(["/", "~", "~/a", "~/e", "", None, "/zookeeper"])}
        if op in ("delete", "check"):
            path = self.path() if rng.random() < 0.9 else "~/a"
            if op == "delete" and path in self.there and path != "~" and rng.random() < 0.7:
                self.there.remove(path)
            return {"path": path if path != "~" else "~/c", "version": self.version()}
        if op == "setData":
            return {"path": self.path(), "data": self.data(), "version": self.version()}
        if op == "setACL":
            path = self.path()
            return {"path": path, "acl": OPEN if path in RESERVED or path == "~" else self.acl(), "version": self.version()}
        if op == "multi":
            return self.multi()
        if op == "multiRead":
            ops = [(rng.choice(["getData", "getChildren"]), {"path": self.path(), "watch": rng.randint(0, 1)})
                   for _ in range(rng.randint(0, 4))]
            if rng.random() < self.oddness:
                ops.insert(rng.randint(0, len(ops)),
                           rng.choice([("exists", {"path": "~/a", "watch": 0}), ("delete", {"path": "~/never", "version": -1}),
                                       ("getChildren2", {"path": "~", "watch": 0}), ("getData", {"path": None, "watch": 0})]))
            return {"ops": ops, **({"ended": False} if rng.random() < self.oddness / 2 else {})}
        if op in ("checkWatches", "removeWatches"):
            return {"path": self.path(),
                    "type": rng.choice([1, 1, 2, 2, 3, 3, 4, 5] + ([0, 6, -1] if rng.random() < self.oddness * 3 else []))}
        if op == "addWatch":
            return {"path": self.path(), "mode": rng.choice([0, 0, 1, 1] + ([2, -1] if rng.random() < self.oddness * 3 else []))}
        if op in ("setWatches", "setWatches2"):
            return self.set_watches(op).args
        return self.rest(op)

    def rest(self, op):
        rng = self.rng
        if op == "auth":
            if rng.random() < 0.85:
                return {"scheme": "digest", "auth": rng.choice(USERS)}
            return rng.choice([{"scheme": "ip", "auth": b""}, {"scheme": "ip", "auth": None}, {"scheme": "world", "auth": b"anyone"},
                               {"scheme": "nothing", "auth": b"x"}, {"scheme": "digest", "auth": None}, {"scheme": "sasl", "auth": b""},
                               {"scheme": None, "auth": b""}, {"scheme": "auth", "auth": b""},
                               {"scheme": "digest", "auth": "\U0001f600:p".encode()},
                               {"scheme": "digest", "auth": b"\xed\xa0\x80:\xff"}])
        if op == "reconfig":
            return rng.choice([{"joining": None, "leaving": None, "members": None, "config": -1},
                               {"joining": None, "leaving": "x", "members": "", "config": 5},
                               {"joining": "server.2=localhost:1:2;3", "leaving": None, "members": None, "config": 0}])
        return {"sasl": {"token": rng.choice([b"", b"abc"])}, "check": {"path": "~/a", "version": -1},
                "unknown": {"number": rng.choice([0, 10, 23, 99, 108, 999, -1, -5])},
                "createSession": {"timeout": 60_000}, "deleteContainer": {"path": "~/never/there"}}.get(op, {})


def may_end(request):
    """Whether the connection ends behind it, or may."""
    return is_half_done(request) or request.op in ("check", "unknown", "createSession", "deleteContainer") or request.op == "auth" and (
        request.bend is not None or request.args["scheme"] not in ("digest", "ip") or request.args["auth"] is None)


def is_ephemeral_container(request):
    return request.op == "createContainer" and request.args["flags"] in (1, 3)


def is_half_done(request):
    """A setWatches of which Apache does a part, so that the tool drops the connection."""
    lists = [request.args[name] for name in ("data", "exist", "child", "persistent", "recursive") if request.op.startswith("setWatches")
             and name in request.args]
    return any(not isinstance(one, list) or None in one for one in lists)


FRAMES = [struct.pack(">i", n) + more for n, more in (
    (-1, b""), (-2**31, b""), (2**31 - 1, b""), (1048576, b""), (0, b""), (4, b"\0\0\0\1"), (7, b"\0\0\0\1\0\0\0"))]


def hello(payload):
    return struct.pack(">i", len(payload)) + payload


PLAIN = struct.pack(">iqiq", 0, 0, 30_000, 0)
HANDSHAKES = [
    hello(b""), hello(b"\0" * 8), hello(PLAIN), hello(PLAIN + struct.pack(">i", -2)),
    hello(PLAIN + struct.pack(">i", 2**31 - 1) + bytes(16)),
    hello(PLAIN + struct.pack(">i", 17) + bytes(16)), hello(PLAIN + struct.pack(">i", -1) + b"\0"), hello(PLAIN + struct.pack(">i", 0)),
    hello(PLAIN + struct.pack(">i", 16) + bytes(16) + b"\0" + b"more"), hello(PLAIN + struct.pack(">i", 16) + bytes(16) + b"\7"),
    hello(struct.pack(">iqiq", -7, -1, -5, 0) + struct.pack(">i", 16) + bytes(16)),
    hello(struct.pack(">iqiq", 0, 0, 0, 0) + struct.pack(">i", -1)),
    struct.pack(">i", -5), struct.pack(">i", 1048576), struct.pack(">i", 2**31 - 1),
    hello(struct.pack(">iqiq", 0, 1 << 62, 30_000, 0) + struct.pack(">i", 16) + bytes(16) + b"\0"),
]
