"""Programs for the cells of the coverage table that chance seldom reaches: each makes the state that an error or event
needs, and then asks for it in many ways. They are as random as they can be without missing their aim."""

from program import Request, Step
import wire

U1, U2 = b"u1:p1", b"u2:p2"
ID1 = wire.digest(U1).decode()
OPEN = [(31, "world", "anyone")]
# Lists that let nobody but u1 do what their name says.
NO_READ, NO_WRITE = [(30, "world", "anyone"), (31, "digest", ID1)], [(29, "world", "anyone"), (31, "digest", ID1)]
NO_CREATE, NO_DELETE = [(27, "world", "anyone"), (31, "digest", ID1)], [(23, "world", "anyone"), (31, "digest", ID1)]
NO_ADMIN, NOTHING = [(15, "world", "anyone"), (31, "digest", ID1)], [(31, "digest", ID1)]
CONFIGS = ("default", "quota", "extended", "local", "reconfig")
AUTH = Request("auth", {"scheme": "digest", "auth": U1})
# What a client sets for the totals of a quota: with others, without one of them, with what is no total.
TOTALS = [b"count=5,bytes=7", b"bytes=3", b"count=9=;y=2", b"x=4;bytes=7", b""]


def steps(rng, number):
    """(configuration, steps) of the directed program with this number: every kind in every configuration, in turn.
    One of the kinds has a configuration of its own."""
    kinds = [creates, deletes_and_sets, acls, reads, multis, quotas, watches, watches_of_ends, catch_up, checked_watches, endings, cut,
             ttls, sessions, restarted, reaped, nested_quotas]
    kind = kinds[number % len(kinds)]
    config = "reaping" if kind is reaped else CONFIGS[number // len(kinds) % len(CONFIGS)]
    if kind is restarted and number // len(kinds) % 3:
        kind = creates
    return config, list(kind(rng, config))


def ask(op, **args):
    return Request(op, args)


def make(path, op="create", data=b"", acl=None, flags=0, **more):
    return Request(op, {"path": path, "data": data, "acl": OPEN if acl is None else acl, "flags": flags, **more})


def delete(path, version=-1):
    return Request("delete", {"path": path, "version": version})


def change(path, data, version=-1):
    return Request("setData", {"path": path, "data": data, "version": version})


def part(request):
    """The request as an operation of a multi."""
    return request.op, request.args


def read(op, path, watch=0):
    return Request(op, {"path": path, **({"watch": watch} if op in ("exists", "getData", "getChildren", "getChildren2") else {})})


def connect(slot, *requests):
    return Step("connect", slot, {"timeout": 60_000, "readOnly": 0}, requests)


def send(slot, *requests):
    return Step("send", slot, {}, requests)


def mixed(rng, requests):
    requests = list(requests)
    rng.shuffle(requests)
    return requests


def kinds_of_create(config):
    """(operation, flags, more) that succeed."""
    kinds = [("create", 0, {}), ("create2", 0, {}), ("createContainer", 4, {})]
    return kinds + ([("createTTL", 5, {"ttl": 100_000})] if config in ("extended", "reaping") else [])


def creates(rng, config):
    """Every outcome of every kind of create."""
    yield connect(0, make("~/p"), make("~/p/here"), make("~/e", flags=1), make("~/shut", acl=NO_CREATE), make("~/shut/x", op="create2"))
    for _ in range(2):
        for op, flags, more in mixed(rng, kinds_of_create(config)):
            n = rng.randint(0, 10**6)
            one = dict(op=op, flags=flags, **more)
            wanted = [make(f"~/p/new{n}", **one), make(f"~/p/new{n}", **one), make("~/missing/x", **one), make("~/shut/y", **one),
                      make("~/e/x", **one),
                      make("~/p/here", data=b"x", **one), make("~/p/bad", acl=[], **one),
                      make("~/p/bad", acl=[(31, "nothing", "x")], **one),
                      make("~/p//x", **one), make("~/p/\x01", **one), make("nowhere", **one), make("~/p/bad", op, flags=9, **more),
                      make("~/p/bad", op, flags=-1, **more), make("~/p/fine", acl=[(31, "ip", "127.0.0.1")], **one)]
            if op != "createTTL":
                wanted += [make("~/p/ttl", op, flags=5), make("~/p/ttl", op, flags=6),
                           make("~/p/s", op, flags=rng.choice([2, 3]) if op != "createContainer" else 2)]
            yield send(0, *mixed(rng, wanted))
            yield send(0, Request(op, {**make("~/p/cut", **one).args}, bend=("cut", rng.choice([0, 5, 14]))))
    yield send(0, read("getChildren2", "~/p"), read("getChildren", "~"))


def deletes_and_sets(rng, _):
    yield connect(0, make("~/p"), make("~/p/x"), make("~/shut", acl=NO_DELETE), make("~/shut/x"), make("~/w", acl=NO_WRITE),
                  make("~/full"), make("~/full/x"))
    for _ in range(3):
        yield send(0, *mixed(rng, [delete(path, version) for path, version in (
            ("~/missing/x", -1), ("~/p/missing", -1), ("~/shut/x", -1), ("~/shut/missing", 3), ("~/full", -1), ("~/full", 0),
            ("~/full", 5), ("/", -1),
            ("nowhere", -1), ("/zookeeper/config", -1), ("~/p/x", 7))]))
        yield send(0, *mixed(rng, [change(path, rng.choice([None, b"x"]), version) for path, version in (
            ("~/missing", -1), ("~/w", -1), ("~/w", 9), ("~/p", 77), ("~/p", -1), ("~//p", -1), ("", -1), (None, -1), ("~/p/", 0),
            ("/zookeeper/config", -1))]))
        yield send(0, make("~/p/y"), change("~/p/y", b"1", 0),
                   change("~/p/y", b"2", 0),
                   delete("~/p/y", 0), delete("~/p/y", 1), delete("~/p/y"))
        yield send(0, Request("delete", {"path": "~/p", "version": -1}, bend=("cut", 6)),
                   Request("setData", {"path": "~/p", "data": b"x", "version": -1}, bend=("cut", 9)))


def acls(rng, _):
    """setACL and getACL, masking, and what `auth` becomes."""
    yield connect(0, make("~/open"), make("~/shut", acl=NO_ADMIN), make("~/none", acl=NOTHING),
                  make("~/read", acl=[(1, "world", "anyone"), (31, "digest", ID1)]),
                  make("~/lines", acl=[(1, "world", "anyone"), (31, "digest", "u:h\nz"), (1, "digest", "u\u2028v:h\r\n")]))
    lists = [[], None, [(31, "nothing", "x")], [(31, "world", "bob")], [(31, "digest", "bad")], [(31, "auth", "")]]
    for acl in mixed(rng, lists):
        yield send(0, ask("setACL", path="~/open", acl=acl, version=-1))
        yield send(0, ask("setACL", path="~/missing", acl=acl, version=-1))
    for path, acl, version in (("~/shut", OPEN, -1), ("~/missing", OPEN, -1), ("~/open", OPEN, 99), ("~//x", OPEN, -1), (None, OPEN, -1),
                               ("~/open", OPEN, 0)):
        yield send(0, ask("setACL", path=path, acl=acl, version=version))
    yield send(0, Request("setACL", {"path": "~/open", "acl": OPEN, "version": -1}, bend=("cut", 10)))
    paths = ("~/open", "~/shut", "~/none", "~/read", "~/lines", "~/missing", "")
    yield send(0, *(read("getACL", path) for path in paths), Request("getACL", {"path": "~/open"}, bend=("cut", 2)))
    for user in mixed(rng, [U1, U2, b"u3:p3"])[:rng.randint(1, 3)]:
        yield send(0, ask("auth", scheme="digest", auth=user))
    yield send(0, ask("whoAmI"))
    yield send(0, make("~/mine", acl=[(31, "auth", "")]),
               make("~/mixed", acl=[(1, "world", "anyone"), (31, "auth", "x"), (31, "digest", ID1)]))
    yield send(0, ask("setACL", path="~/mine", acl=[(rng.choice([31, 17]), "auth", ""), (1, "ip", "127.0.0.1")], version=-1))
    yield connect(1)
    for slot in (0, 1):
        yield send(slot, *(read("getACL", path) for path in (*paths, "~/mine", "~/mixed")))
        yield send(slot, read("getData", "~/mine"), change("~/mixed", b"x"))
    yield send(1, ask("auth", scheme="digest", auth=b"super:secret"))
    yield send(1, ask("whoAmI"), read("getACL", "~/none"), change("~/none", b"s"),
               change("/zookeeper/config", b""))


def reads(rng, _):
    yield connect(0, make("~/p", data=b"d"), make("~/p/x", flags=1), make("~/none", acl=NO_READ), make("~/none/x"))
    yield connect(1)
    every = ("exists", "getData", "getChildren", "getChildren2", "getACL", "getAllChildrenNumber")
    for _ in range(2):
        for slot in (0, 1):
            yield send(slot, *mixed(rng,
                                    [read(op, path, rng.randint(0, 1)) for op in every
                                     for path in ("~/p", "~/missing", "~/none", "~/none/x")]))
            yield send(slot, *mixed(rng, [Request(op, read(op, rng.choice(["~/p", None])).args, bend=("cut", rng.choice([0, 3, 6])))
                                     for op in (*every, "sync", "getEphemerals")]))
            yield send(slot, *(read("exists", path) for path in ("~/\0", "\0", "", "nowhere")), *(read(op, None) for op in every))
            yield send(slot, *mixed(rng, [ask("getEphemerals", path=path) for path in ("/", "~", "~/p", "", None, "x")]),
                       ask("sync", path="~/p"), ask("sync", path=None), ask("ping"),
                       ask("whoAmI"), ask("multiRead", ops=[(op, {"path": path, "watch": 1}) for op in ("getData", "getChildren")
                                               for path in ("~/p", "~/missing", "~/none")]))
            yield send(slot, ask("multiRead", ops=[part(read("getData", "~/p"))], ended=False), ask("multiRead", ops=[]))
    for op in every:
        yield send(0, read(op, "~", 1))


def multis(rng, config):
    yield connect(0, make("~/p"), make("~/p/x"), make("~/e", flags=1), make("~/shut", acl=[(9, "digest", ID1)]),
                  make("~/nowrite", acl=NO_WRITE),
                  make("~/nodelete", acl=NO_DELETE), make("~/nodelete/x"))
    fine = part(change("~/p", b"1"))

    def failing():
        for op, flags, more in kinds_of_create(config):
            for path, acl in (("~/missing/x", OPEN), ("~/shut/x", OPEN), ("~/e/x", OPEN), ("~/p/x", OPEN), ("~/p/\x01", OPEN), ("nowhere", OPEN),
                              ("~/p/.", OPEN), ("~/p/bad", []), ("~/p/bad", [(1, "nothing", "")])):
                yield op, {"path": path, "data": b"", "acl": acl, "flags": flags, **more}
        yield "createTTL", {"path": "~/p/ttl", "data": b"", "acl": OPEN, "flags": 5, "ttl": 0 if config == "extended" else 1000}
        for path, version in (("~/missing", -1), ("~/nodelete/x", -1), ("~/p", -1), ("~/p/x", 8), ("/", -1)):
            yield "delete", {"path": path, "version": version}
        for path, version in (("~/missing", -1), ("~/nowrite", -1), ("~/p", 9999), ("~//p", -1)):
            yield "setData", {"path": path, "data": b"x", "version": version}
        for path, version in (("~/missing", -1), ("~/shut", -1), ("~/p", 9999), ("~//p", -1)):
            yield "check", {"path": path, "version": version}

    behind = [("create", {"path": "~/p/n", "data": None, "acl": OPEN, "flags": 0}),
              part(make("~/p/m", op="create2")),
              part(delete("~/p/x")), fine, part(ask("check", path="~/p", version=-1))]
    for one in mixed(rng, failing()):
        before = rng.choice([[], [fine], [fine, ("create", {"path": "~/p/tmp", "data": b"", "acl": OPEN, "flags": rng.choice([0, 2])})]])
        yield send(0, ask("multi", ops=[*before, one, *rng.sample(behind, rng.randint(0, len(behind)))]))
    for n in range(3):
        whole = [(op, {"path": f"~/p/w{n}{op}", "data": b"", "acl": OPEN, "flags": flags, **more}) for op, flags,
                 more in kinds_of_create(config)]
        whole += [("create", {"path": f"~/p/w{n}create/sub", "data": b"", "acl": OPEN, "flags": 2}), fine,
                  ("check", {"path": f"~/p/w{n}create2", "version": 0}),
                  ("delete", {"path": f"~/p/w{n}create2", "version": 0})]
        yield send(0, ask("multi", ops=whole))
    bad = [part(read("getData", "~/p")), ("setACL", {"path": "~/p", "acl": OPEN, "version": -1}),
           ("create", {"path": "~/p/z", "data": b"", "acl": OPEN, "flags": 9}),
           ("create", {"path": "~/p/z", "data": b"", "acl": None,
                       "flags": 0}), part(change(None, b"")), part(ask("check", path=None, version=-1)),
           part(delete(None)), ("create", {"path": "~/p/z", "data": b"", "acl": OPEN, "flags": 5})]
    for one in bad:
        yield send(0, ask("multi", ops=[fine, one] if rng.random() < 0.5 else [one]), read("getData", "~/p"))
    yield send(0, ask("multi", ops=[fine], ended=False), ask("multi", ops=[]), Request("multi", {"ops": [fine]}, bend=("cut", 12)))
    yield send(0, ask("multi",
                      ops=[("createTTL", {"path": "~/p/t", "data": b"", "acl": OPEN, "flags": rng.choice([0, 1, 2]), "ttl": 1000}),
                           part(ask("check", path="~/never", version=-1))]))
    for ops in ([part(read("exists", "~/p"))], [part(read("getChildren2", "~/p"))], [fine],
                [part(read("getData", "~/p")), fine],
                [part(read("getData", "~/p")), part(read("getData", None))]):
        yield send(0, ask("multiRead", ops=ops))


def quotas(rng, config):
    """Soft and hard limits, on counts and on bytes; what is enforced depends on the configuration."""
    hard = [b"count=-1,bytes=-1=;byteHardLimit=10;countHardLimit=3", b"count=2,bytes=5=;byteHardLimit=12;countHardLimit=-1",
            b"count=2,bytes=5",
            b"count=-1,bytes=-1=;byteHardLimit=-1;countHardLimit=2"]
    top = "/zookeeper/quota~"
    yield connect(0, make("~/q"), make("~/q/a"), make(top), make(top + "/q"))
    yield connect(1, read("getData", "~/q", 1), read("getChildren", top + "/q", 1))
    for limits in mixed(rng, hard):
        yield send(0, *mixed(rng,
                             [make(top + "/q/zookeeper_limits", data=limits), make(top + "/q/zookeeper_stats", data=b"count=0,bytes=0")]))
        yield send(0, read("getData", top + "/q/zookeeper_stats", 1), read("getData", top + "/q/zookeeper_limits"))
        for op, flags, more in mixed(rng, kinds_of_create(config)):
            yield send(0, make(f"~/q/{op}", op=op, flags=flags, data=b"d" * 4, **more))
            yield send(0, read("getData", top + "/q/zookeeper_stats"))
            yield send(0, ask("multi", ops=[part(make("~/q/m", data=b"x" * 20))]))
        yield send(0, change("~/q/a", b"y" * 20))
        yield send(0, change("~/q/a", b"y" * 20, 9))
        yield send(0, change("~/q", b"z" * rng.randint(0, 9)))
        yield send(0, make("~/q/a", data=b"x"), make("~/q/e", flags=1),
                   ask("multi", ops=[part(change("~/q", b"w" * 30))]))
        yield send(0, ask("multi", ops=[part(make("~/q/m1")), part(make("~/q/m2"))]))
        yield send(0, read("getData", top + "/q/zookeeper_stats"), change(top + "/q/zookeeper_limits", rng.choice(hard)))
        yield send(0, make("~/q/a/deep", data=b"1"), read("getData", top + "/q/zookeeper_stats"))
        yield send(0, *(delete(path) for path in ("~/q/a/deep", *(f"~/q/{op}" for op, _, _ in kinds_of_create(config)), "~/q/e")))
        yield send(0, read("getData", top + "/q/zookeeper_stats"))
        yield send(0, *mixed(rng, [delete(f"{top}/q/{name}")
                                   for name in ("zookeeper_limits", "zookeeper_stats")]))
        yield send(0, make("~/q/free"), delete("~/q/free"))
        # The next limits find the same nodes.
        yield send(0, change("~/q", b""), change("~/q/a", b""), *(delete(f"~/q/{name}") for name in ("m", "m1", "m2")))


def nested_quotas(rng, _):
    """A quota inside of another one: which of them counts, from where on, and what a client has set for totals."""
    top = "/zookeeper/quota~"
    outer, inner = top + "/q", top + "/q/a"
    looks = [read("getData", f"{of}/zookeeper_stats") for of in (outer, inner)]
    yield connect(0, make("~/q", data=b"1"), make("~/q/a", data=b"12"), make(top), make(outer), make(inner))
    for text in mixed(rng, TOTALS):
        yield send(0, *mixed(rng, [make(f"{of}/zookeeper_{name}", data=rng.choice([b"", b"count=1,bytes=1"]))
                                   for of in (outer, inner) for name in ("limits", "stats")]), *looks)
        yield send(0, *mixed(rng, [make("~/q/a/x", data=b"123"), make("~/q/y", data=b"1"), change("~/q/a", b"1" * rng.randint(0, 12)),
                                   make("~/q/a/e", flags=1)]), *looks)
        yield send(0, delete(inner + "/zookeeper_limits"), change("~/q/a/x", b"7" * 20), delete("~/q/a/e"), *looks)
        yield send(0, make(inner + "/zookeeper_limits", data=b"count=1"), delete("~/q/y"), change("~/q/a/x", b"7"), *looks)
        # The first change is as long as what was there.
        yield send(0, change(outer + "/zookeeper_stats", text), change("~/q", b"2"), *looks, change("~/q", b"23"), *looks,
                   change("~/q", b"1"))
        yield send(0, change(inner + "/zookeeper_stats", text),
                   ask("multi", ops=[part(change("~/q/a/x", b"8" * 12)), part(make("~/q/z"))]), *looks, delete("~/q/z"), *looks)
        if rng.random() < 0.1:
            yield Step("restart")
            yield Step("reattach", 0, {"session": "own", "timeout": 60_000, "readOnly": 0, "seen": "seen"}, tuple(looks))
            yield send(0, change("~/q/a/x", b""), change("~/q", b"345"), *looks)
            return
        yield send(0, *mixed(rng, [delete(f"{of}/zookeeper_{name}") for of in (outer, inner) for name in ("limits", "stats")]),
                   delete("~/q/a/x"), *looks)


# What leaves a watch.
WATCHERS = {
    "data": lambda path: [read("getData", path, 1)], "exists": lambda path: [read("exists", path, 1)],
    "child": lambda path: [read("getChildren", path, 1)], "child2": lambda path: [read("getChildren2", path, 1)],
    "persistent": lambda path: [ask("addWatch", path=path, mode=0)], "recursive": lambda path: [ask("addWatch", path=path, mode=1)],
    "every": lambda path: [read("getData", path, 1), read("getChildren", path, 1), ask("addWatch", path=path, mode=0),
                           ask("addWatch", path=path, mode=1)],
    "again": lambda path: [Request("setWatches2",
                                   {"relative": "newest", "data": [path], "exist": [path + "/n"], "child": [path], "persistent": [path],
                                    "recursive": [path]}, xid=-8)],
}


def watches(rng, config):
    """Each kind of watch, on a node, its parent and above it, and each change."""
    yield connect(0, make("~/w"), make("~/w/n"))
    for slot in (1, 2):
        yield connect(slot)
    for op, flags, more in kinds_of_create(config):
        for name, leave in mixed(rng, WATCHERS.items()):
            slot = rng.choice([0, 1, 2])
            where = rng.choice(["~/w/n", "~/w", "~/w/n/c"])
            yield send(slot, *leave(where))
            yield send(0, make("~/w/n/c", op=op, flags=flags, **more))
            yield send(slot, *leave(where))
            yield send(0, change(rng.choice(["~/w/n", "~/w/n/c"]), name.encode()))
            yield send(0, ask("setACL", path="~/w/n/c", acl=OPEN, version=-1))
            yield send(slot, *leave(where))
            yield send(0, delete("~/w/n/c"))
            yield send(rng.choice([0, 1]),
                       ask("multi",
                           ops=[part(make("~/w/n/c")), part(change("~/w/n/c", b"", 0)), part(change("~/w", b"")),
                                part(delete("~/w/n/c", 1))]))
    yield send(0, make("~/hidden", acl=NO_READ), make("~/w/hidden", acl=NO_READ))
    for slot in (1, 2):
        yield send(slot, ask("addWatch", path="~", mode=1), ask("addWatch", path="~/hidden", mode=0))
    yield send(2, AUTH)
    yield send(0, make("~/hidden/x", acl=NO_READ), change("~/hidden", b""),
               delete("~/hidden/x"), delete("~/w/hidden"))


def watches_of_ends(rng, _):
    """The end of a session with ephemeral nodes, by itself and by expiry, under every kind of watch."""
    yield connect(0, make("~/w"))
    for slot in (1, 2):
        yield connect(slot)
    for n, name in enumerate(mixed(rng, WATCHERS)):
        owner = 3 + n
        yield connect(owner, make("~/w/e0", flags=1), make("~/w/e1", flags=1), make("~/w/s", flags=3), make("~/f", flags=1))
        for slot in (1, 2, owner):
            yield send(slot, *WATCHERS[name](rng.choice(["~/w", "~/w/e0", "~/w/e1"])), *WATCHERS["child"]("~"))
        if n < 2:
            yield Step("expire", owner, {"open": bool(n)})
        else:
            yield send(owner, ask("closeSession"))
        yield send(0, read("getChildren2", "~/w"))


def catch_up(rng, _):
    """setWatches and setWatches2 after changes that the client has not seen."""
    paths = ["~/gone", "~/changed", "~/same", "~/new", "~/parent", "~/never", "~/emptied"]
    yield connect(0, *(make(path) for path in paths if path not in ("~/new", "~/never")), make("~/emptied/x"))
    yield connect(1)
    for n in range(3):
        yield send(1, read("getData", "~/same", 1), read("exists", "~/never", 1), read("getChildren", "~/parent", 1))
        yield Step("drop", 1)
        changes = [delete("~/gone"), change("~/changed", b"1"), make("~/new"),
                   make(f"~/parent/x{n}"),
                   delete("~/emptied/x")]
        yield send(0, *mixed(rng, changes))
        for op in ("setWatches", "setWatches2"):
            lists = {name: mixed(rng, paths) for name in ("data", "exist", "child")}
            more = {"persistent": paths[:2], "recursive": ["~"]} if op == "setWatches2" else {}
            again = Request(op, {"relative": rng.choice(["seen", "seen", "before", "start", "newest"]), **lists, **more},
                            xid=rng.choice([-8, None]))
            yield Step("reattach", 1, {"session": "own", "timeout": 60_000, "readOnly": 0, "seen": "seen", "piped": rng.random() < 0.5},
                       (again,))
            yield send(0, *mixed(rng, [change("~/same", b""), make("~/never"), make("~/same/x")]))
            yield send(0, delete("~/never"), delete("~/same/x"))
        yield send(1, Request("setWatches", {"relative": "zero", "data": ["~"], "exist": [], "child": []}, bend=("cut", 9)))
        yield send(1, Request("setWatches2",
                              {"relative": "zero", "data": ["~"], "exist": [], "child": [], "persistent": [], "recursive": []},
                              bend=("cut", 22)))
        yield send(0, make("~/gone"), make("~/emptied/x"), delete("~/new"))


def checked_watches(rng, _):
    yield connect(0, make("~/w"), make("~/w/x"))
    yield connect(1)
    for name, leave in mixed(rng, WATCHERS.items()):
        yield send(1, *leave("~/w"))
        asked = [ask(op, path=path, type=kind) for op in ("checkWatches", "removeWatches") for path in ("~/w", "~/w/x")
                 for kind in (1, 2, 3, 4, 5)]
        yield send(1, *rng.sample(asked, 8),
                   *(ask(op, path="~/w", type=rng.choice([0, 6, -1])) for op in ("checkWatches", "removeWatches")))
        yield send(1, ask("addWatch", path="~/w", mode=rng.choice([2, -1, 9])),
                   ask("addWatch", path=rng.choice([None, "", "nowhere", "~/w"]), mode=0),
                   Request("checkWatches", {"path": "~/w", "type": 1},
                           bend=("cut", 5)), Request("removeWatches", {"path": "~/w", "type": 1}, bend=("cut", 3)),
                   Request("addWatch", {"path": "~/w", "mode": 1}, bend=("cut", 5)))
        yield send(0, change("~/w", name.encode()), make("~/w/y"), delete("~/w/y"))
        yield send(1, *(ask("removeWatches", path="~/w", type=kind) for kind in mixed(rng, [3, 4, 5])))
        yield send(0, change("~/w", b""))


def endings(rng, config):
    """What ends a connection, what does not, and that the session lives on."""
    odd = [ask("unknown", number=number) for number in (0, 10, 23, 99, 108, -1)]
    odd += [ask("auth", scheme=scheme, auth=auth) for scheme,
            auth in (("world", b""), ("nothing", b"x"), (None, b""), ("sasl", b"x"), ("digest", None), ("auth", b""), ("super", b""))]
    odd += [ask("check", path="~/p", version=-1), ask("check", path="~/missing", version=-1),
            Request("auth", {"scheme": "digest", "auth": U1}, bend=("cut", rng.choice([2, 9, 20]))),
            ask("deleteContainer", path="~/never/there"), ask("createSession", timeout=60_000)]
    yield connect(0, make("~/p"))
    for one in mixed(rng, odd):
        yield send(0, one)
        yield Step("reattach", 0, {"session": "own", "timeout": 60_000, "readOnly": 0}, (ask("ping"), read("getData", "~/p", 1)))
    for one in (ask("sasl", token=b""), ask("sasl", token=b"abc"), ask("sasl", token=None), ask("auth", scheme="ip", auth=b""),
                ask("auth", scheme="digest", auth=b"nobody"), AUTH):
        yield send(0, one)
    configurations = [{"joining": None, "leaving": None, "members": None, "config": -1},
                      {"joining": "x", "leaving": "1", "members": None, "config": 3},
                      {"joining": None, "leaving": None, "members": "server.1=localhost:1:2;3", "config": -1}]
    yield send(0, *(Request("reconfig", one) for one in configurations), Request("reconfig", configurations[0], bend=("cut", 5)),
               ask("whoAmI"))
    yield send(0, ask("closeSession"))
    yield Step("reattach", 0, {"session": "own", "timeout": 60_000, "readOnly": 0})


def cut(rng, config):
    """Each operation, cut off in several places and with bytes behind it."""
    yield connect(0, make("~/p"))
    bodies = [make("~/p/x"), make("~/p/x", op="create2"), make("~/p/x", op="createContainer", flags=4),
              make("~/p/x", op="createTTL", flags=5, ttl=1000),
              delete("~/p/x"), change("~/p", b"abc"), ask("setACL", path="~/p", acl=OPEN, version=-1),
              *(read(op, "~/p")
                for op in ("exists", "getData", "getChildren", "getChildren2", "getACL", "sync", "getAllChildrenNumber",
                           "getEphemerals")),
              ask("multi", ops=[part(change("~/p", b""))]), ask("multiRead", ops=[part(read("getData", "~/p"))]),
              ask("checkWatches", path="~/p", type=1), ask("removeWatches", path="~/p", type=1), ask("addWatch", path="~/p", mode=0),
              Request("reconfig", {"joining": None, "leaving": None, "members": None, "config": -1})]
    for one in mixed(rng, bodies):
        bends = [("cut", n) for n in rng.sample(range(0, 34), 4)] + [("tail", b"more")]
        yield send(0, *(Request(one.op, one.args, None, bend) for bend in bends))
        yield send(0, delete("~/p/x"))


def ttls(rng, config):
    """TTL and container nodes, where they are allowed and where not."""
    yield connect(0, make("~/p"), make("~/e", flags=1), make("~/shut", acl=NO_CREATE))
    for n in range(3):
        one = dict(op="createTTL", flags=5)
        wanted = [make(f"~/p/t{n}", ttl=rng.choice([1, 1000, (1 << 40) - 1]), **one), make(f"~/p/t{n}", ttl=1000, **one),
                  make("~/p/s", op="createTTL", flags=6, ttl=5000),
                  *(make("~/p/bad", ttl=ttl, **one)
                    for ttl in (0, -1, -2, 1 << 40, -(1 << 63), (1 << 63) - 1)), make("~/e/x", ttl=1, **one),
                    make("~/shut/x", ttl=1, **one),
                  make("~/missing/x", ttl=1, **one), make("~//x", ttl=1, **one), make("~/p/bad", acl=[], ttl=1, **one),
                  make("~/p/bad", op="createTTL", flags=9, ttl=1),
                  # Never with ttl -1: see generator.py.
                  *(make("~/p/bad", op="createTTL", flags=flags, ttl=rng.choice([0, 1000]))
                    for flags in (0, 1, 2, 3, 4)), make(f"~/p/c{n}", op="createContainer", flags=rng.choice([0, 1, 2, 3, 4])),
                  make(f"~/p/t{n}/x"), make(f"~/p/plain{n}", flags=4), make(f"~/p/plain{n}", op="create2", flags=rng.choice([4, 5, 6]))]
        yield send(0, *mixed(rng, wanted))
        # Behind the container: one with ephemeral flags is an ephemeral node to Apache until it is applied.
        yield send(0, make(f"~/p/c{n}/x", flags=rng.choice([0, 1])))
        yield send(0, Request("createTTL", make("~/p/cut", op="createTTL", flags=5, ttl=1000).args, bend=("cut", rng.choice([10, 30]))))
        yield send(0, *(read(op, path) for op in ("exists", "getChildren2") for path in (f"~/p/t{n}", f"~/p/c{n}", "~/p")),
                   ask("getEphemerals", path="/"))
        yield send(0, ask("multi",
                          ops=[("createTTL", make("~/p/m", op="createTTL", flags=6, ttl=rng.choice([0, 5])).args),
                               ("createContainer", make(f"~/p/mc{n}", flags=4).args)]))


def sessions(rng, _):
    """New sessions, stolen and refused ones, and requests behind the handshake."""
    yield connect(0, make("~/p"), make("~/p/e", flags=1), read("getData", "~/p", 1))
    yield connect(1, read("exists", "~/p/e", 1), read("getChildren", "~/p", 1))
    own = {"session": "own", "timeout": 60_000, "readOnly": 0}
    for how in mixed(rng, [own, {**own, "readOnly": None}, {**own, "password": "wrong"}, {**own, "password": "null"},
                           {**own, "seen": "ahead"}, {**own, "session": "unknown"}, {**own, "timeout": 2_000_000},
                           {**own, "seen": "seen"}, {**own, "seen": "max"}]):
        slot = rng.choice([0, 1])
        yield Step("reattach", slot, how, (change("~/p", b""), read("getData", "~/p", 1)))
        yield Step("reattach", slot, own, (read("getChildren2", "~/p", 1), ask("getEphemerals", path="/")))
        if rng.random() < 0.3:
            yield Step("drop", slot, {"reset": True})
    yield send(0, ask("closeSession"))
    yield Step("reattach", 0, own, (ask("ping"),))
    yield Step("expire", 1, {"open": rng.random() < 0.5})
    yield Step("reattach", 1, own, (ask("ping"),))


def restarted(rng, _):
    """What a restart keeps: nodes, sessions, ephemeral nodes, sequence numbers, ACLs, quotas."""
    top = "/zookeeper/quota~"
    yield connect(0, make("~/p", data=b"x"), make("~/p/e", flags=1), make("~/p/s", flags=2),
                  make("~/p/c", op="createContainer", flags=4), make("~/shut", acl=NOTHING), make(top), make(top + "/p"),
                  make(top + "/p/zookeeper_limits", data=b"count=9,bytes=99"), make(top + "/p/zookeeper_stats"))
    yield connect(1, make("~/p/f", flags=1), read("getData", "~/p", 1))
    yield Step("restart")
    yield Step("reattach", 0, {"session": "own", "timeout": 60_000, "readOnly": 0, "seen": "seen"}, (
        Request("setWatches", {"relative": "seen", "data": ["~/p"], "exist": ["~/p/new"], "child": ["~/p"]},
                xid=-8), make("~/p/s", flags=3), read("getChildren2", "~/p"), ask("getEphemerals", path="/")))
    yield send(0, make("~/p/new"), ask("setData", path="~/p", data=b"yy", version=rng.choice([0, 1])),
               read("getData", top + "/p/zookeeper_stats"), read("getData", "~/shut"))
    if rng.random() < 0.5:
        yield Step("expire", 1)
    yield send(0, read("getChildren2", "~/p"))


def reaped(rng, _):
    """Containers that have become empty and TTL nodes that are too old go by themselves, one at a time."""
    yield connect(0, make("~/p"), ask("addWatch", path="~/p", mode=rng.choice([0, 1])))
    yield connect(1)
    for n in range(2):
        yield send(0, make(f"~/p/c{n}", op="createContainer", flags=4), make(f"~/p/c{n}/x"), read("getChildren", f"~/p/c{n}", 1))
        yield send(1, read("getData", f"~/p/c{n}", 1), read("getChildren", "~/p", 1))
        yield Step("reap", 0, {"zxids": 2}, (delete(f"~/p/c{n}/x"),))
        yield send(1, read("exists", f"~/p/c{n}"), read("getChildren2", "~/p"))
        yield Step("reap", 1, {"zxids": 2},
                   (make(f"~/p/t{n}", op="createTTL", flags=5, ttl=500), read("getData", f"~/p/t{n}", 1), read("getChildren", "~/p", 1)))
        yield send(0, read("exists", f"~/p/t{n}"), make(f"~/p/empty{n}", op="createContainer", flags=4))
