"""What requests do to the tree, against small models: Stats, sequence numbers, multis, the order of checks, permissions."""

import random
import struct

import pytest

import harness
from harness import SUPER, asked, client, events_of, zk

SEED = 11
NO_NODE, NO_AUTH, BAD_VERSION, NO_CHILDREN, EXISTS, NOT_EMPTY, BAD_ACL, QUOTA = -101, -102, -103, -108, -110, -111, -114, -125
BAD_ARGUMENTS, UNIMPLEMENTED = -8, -6
SHUT = zk.acl((1, "world", "anyone"), (31, "digest", "u:NKf67vLWTsKfFwXwpgBpVT2LyAQ="))


def stat(raw, path):
    _, err, body = raw.call(zk.EXISTS, zk.path_body(path))
    assert err == 0, (path, err)
    return zk.stat_at(body, 0)


def number_of(raw, path):
    """The number of the next sequential node below a path."""
    _, err, body = raw.call(zk.CREATE, zk.create_body(path + "/n-", b"", flags=2))
    assert err == 0, err
    name, _ = zk.read_buf(body, 0)
    return int(name[-10:])


@pytest.fixture
def saving():
    """A server of which a start reads a snapshot and what follows it in the log."""
    with harness.serving(snapCount=50) as running:
        yield running


def test_stats_count_creates_and_deletes_and_numbers_go_on_after_a_restart_and_a_crash(saving):
    rng = random.Random(SEED)
    one = client(saving)
    root_before = stat(one, "/")
    assert one.call(zk.CREATE, zk.create_body("/s", b""))[1] == 0
    root = stat(one, "/")
    assert (root["cversion"] - root_before["cversion"], root["numChildren"] - root_before["numChildren"]) == (1, 1)
    creates, deletes, there, pzxid = 0, 0, [], stat(one, "/s")["czxid"]
    for step in range(400):
        if step in (150, 300):
            paths = ["/", "/s", there[0][0]]
            before = [stat(one, path) for path in paths]
            saving.restart() if step == 150 else (saving.kill9(), saving.start())
            one = client(saving)
            assert [stat(one, path) for path in paths] == before, "every field of a Stat"
        kind = rng.randrange(6)
        if kind < 3 or not there:
            flags = rng.choice([0, 1, 2, 3])
            path = f"/s/x{step}-"
            zxid, err, body = one.call(zk.CREATE2 if step % 2 else zk.CREATE, zk.create_body(path, b"", flags))
            assert err == 0
            name, _ = zk.read_buf(body, 0)
            assert name.decode() == path + (f"{creates:010}" if flags >= 2 else "")
            creates, pzxid = creates + 1, zxid
            there.append((name.decode(), flags % 2))
        elif kind == 3:
            zxid, err, _ = one.call(zk.DELETE, zk.delete_body(there.pop(rng.randrange(len(there)))[0]))
            # Ephemerals of the time before a restart are deleted with their session, some time later.
            if err == 0:
                deletes, pzxid = deletes + 1, zxid
            else:
                assert err == NO_NODE and step > 150
        elif kind == 4:
            # Neither of these touches the parent.
            path, _ = rng.choice(there)
            one.call(zk.SET, zk.set_body(path, b"data"))
            one.call(zk.SET_ACL, zk.text(path) + zk.OPEN_ACL + struct.pack(">i", -1))
        else:
            # A failed create takes no number.
            assert one.call(zk.CREATE, zk.create_body("/s", b""))[1] == EXISTS
        if step < 150:
            found = stat(one, "/s")
            due = {"cversion": creates + deletes, "numChildren": len(there), "pzxid": pzxid, "version": 0, "aversion": 0, "dataLength": 0}
            assert {name: found[name] for name in due} == due, step
    found = stat(one, "/s")
    children, _ = zk.read_names(one.call(zk.CHILDREN, zk.path_body("/s"))[2])
    assert found["numChildren"] == len(children)
    assert found["cversion"] == 2 * creates - len(children), "creates plus deletes, those of ended sessions too"
    assert number_of(one, "/s") == creates


def test_numbers_of_failed_multis_are_given_again(server, path):
    one = client(server)
    assert one.call(zk.CREATE, zk.create_body(path, b""))[1] == 0
    sequential = (zk.CREATE, zk.create_body(path + "/n-", b"", flags=2))
    _, err, body = one.call(zk.MULTI, zk.multi_body([sequential, sequential, (zk.CHECK, zk.delete_body(path, 77))]))
    assert (err, zk.parse_multi(body)) == (0, [(-1, 0), (-1, 0), (-1, BAD_VERSION)])
    assert number_of(one, path) == 0
    assert one.call(zk.MULTI, zk.multi_body([sequential, sequential]))[1] == 0
    assert number_of(one, path) == 3
    # A taken name: −110 each time, and the number does not move.
    assert one.call(zk.CREATE, zk.create_body(path + "/t-0000000005", b""))[1] == 0
    for _ in range(2):
        assert one.call(zk.CREATE, zk.create_body(path + "/t-", b"", flags=2))[1] == EXISTS
    # A path with a slash at its end, for a sequential node alone.
    assert one.call(zk.CREATE, zk.create_body(path + "/", b""))[1] == BAD_ARGUMENTS
    _, err, body = one.call(zk.CREATE, zk.create_body(path + "/", b"", flags=2))
    assert (err, zk.read_buf(body, 0)[0].decode()) == (0, path + "/0000000005")


class Model:
    """Nodes below a root: path → (data version, number of creates below, whether it is ephemeral)."""

    def __init__(self, root):
        self.root = root
        self.nodes = {root: (0, 0, False)}

    def copy(self):
        other = Model(self.root)
        other.nodes = dict(self.nodes)
        return other

    def children(self, path):
        return [other for other in self.nodes if other.rpartition("/")[0] == path]

    def run(self, op, path, version, flags):
        """(error, result type, events, name) of one operation, which is done if there is no error."""
        parent = path.rpartition("/")[0]
        if op in (zk.CREATE, zk.CREATE2):
            if parent not in self.nodes:
                return NO_NODE, None, [], None
            own, made, ephemeral = self.nodes[parent]
            if flags >= 2:
                path += f"{made:010}"
            if path in self.nodes:
                return EXISTS, None, [], None
            if ephemeral:
                return NO_CHILDREN, None, [], None
            self.nodes[parent] = own, made + 1, ephemeral
            self.nodes[path] = 0, 0, flags % 2 == 1
            return 0, op, [(1, path)], path
        if op == zk.DELETE:
            if parent not in self.nodes or path not in self.nodes:
                return NO_NODE, None, [], None
            if version not in (-1, self.nodes[path][0]):
                return BAD_VERSION, None, [], None
            if self.children(path):
                return NOT_EMPTY, None, [], None
            del self.nodes[path]
            return 0, op, [(2, path)], None
        if path not in self.nodes:
            return NO_NODE, None, [], None
        own, made, ephemeral = self.nodes[path]
        if version not in (-1, own):
            return BAD_VERSION, None, [], None
        if op == zk.CHECK:
            return 0, op, [], None
        self.nodes[path] = own + 1, made, ephemeral
        return 0, op, [(3, path)], None


def results_of(body):
    """(type, error, name or None) of each result, and the end."""
    at, results = 0, []
    while True:
        kind, done, err = struct.unpack_from(">ibi", body, at)
        at += 9
        if done:
            assert (kind, err, at) == (-1, -1, len(body))
            return results
        name = None
        if kind == -1:
            assert struct.unpack_from(">i", body, at)[0] == err, "the code stands twice"
            at += 4
        elif kind in (zk.CREATE, zk.CREATE2):
            name, at = zk.read_buf(body, at)
            name = name.decode()
        if kind in (zk.CREATE2, zk.SET):
            at += zk.STAT.size
        results.append((kind, err, name))


def test_random_multis_are_those_of_a_model(server, path):
    """All or nothing; codes and their places; numbers; events of each operation in turn, with one zxid, before the reply."""
    rng = random.Random(SEED)
    one, watcher = client(server), client(server)
    assert one.call(zk.CREATE, zk.create_body(path, b""))[1] == 0
    for who in (one, watcher):
        assert who.call(zk.ADD_WATCH, zk.watch_body(path, 1))[1] == 0
    model, failed, done = Model(path), 0, 0
    for _ in range(400):
        names = [path + "/" + "/".join(rng.choice("ab") for _ in range(rng.randint(1, 3))) for _ in range(3)] + [path]
        attempt, ops, outcomes = model.copy(), [], []
        for _ in range(rng.randint(0, 6)):
            op = rng.choice([zk.CREATE, zk.CREATE, zk.CREATE2, zk.DELETE, zk.SET, zk.CHECK])
            of, version, flags = rng.choice(names), rng.choice([-1, -1, -1, 0, 1]), rng.choice([0, 0, 1, 2, 3])
            if of == path and op not in (zk.SET, zk.CHECK):
                # What is above belongs to other tests.
                continue
            if op in (zk.CREATE, zk.CREATE2):
                body = zk.create_body(of, b"", flags)
            else:
                body = zk.set_body(of, b"x", version) if op == zk.SET else zk.delete_body(of, version)
            ops.append((op, body))
            if not any(outcome[0] for outcome in outcomes):
                outcomes.append(attempt.run(op, of, version, flags))
        events, (zxid, err, body) = asked(one, zk.MULTI, zk.multi_body(ops))
        assert err == 0
        fails = bool(outcomes) and outcomes[-1][0] != 0
        if fails:
            at = len(outcomes) - 1
            due = [(-1, 0, None)] * at + [(-1, outcomes[-1][0], None)] + [(-1, -2, None)] * (len(ops) - at - 1)
            changes = []
        else:
            due = [(kind, 0, name) for _, kind, _, name in outcomes]
            changes = [(zxid, *event) for outcome in outcomes for event in outcome[2]]
            model = attempt
        assert results_of(body) == due
        assert events == changes
        assert events_of(watcher) == changes
        failed, done = failed + fails, done + (not fails)
        # Deep trees would only collect NODEEXISTS.
        if len(model.nodes) > 25:
            for of in sorted(model.nodes, key=len, reverse=True)[:-1]:
                assert asked(one, zk.DELETE, zk.delete_body(of))[1][1] == 0, of
                model.run(zk.DELETE, of, -1, 0)
            events_of(watcher)
    assert failed > 100 and done > 100, (failed, done)


def test_what_no_multi_may_hold_makes_all_of_it_malformed(server, path):
    one = client(server)
    assert one.call(zk.CREATE, zk.create_body(path, b""))[1] == 0
    first = (zk.CREATE, zk.create_body(path + "/a", b""))
    for op, body in ((zk.SET_ACL, zk.text(path) + zk.OPEN_ACL + struct.pack(">i", -1)), (zk.GET, zk.path_body(path)),
                     (zk.EXISTS, zk.path_body(path)), (zk.MULTI, zk.multi_body([first])), (zk.SYNC, zk.text(path)),
                     (zk.CREATE, zk.create_body(path + "/b", b"", 5)), (zk.CREATE, zk.create_body(path + "/b", b"", 9)),
                     (zk.CREATE, zk.text(path + "/b") + zk.buf(b"") + struct.pack(">ii", -1, 0))):
        _, err, rest = one.call(zk.MULTI, zk.multi_body([first, (op, body)]))
        assert (err, rest) == (-5, b""), op
    # No end.
    assert one.call(zk.MULTI, zk.multi_body([first])[:-9])[1:] == (-5, b"")
    assert one.call(zk.EXISTS, zk.path_body(path + "/a"))[1] == NO_NODE
    # An empty list is that operation's own error, and checks alone are legal.
    empty = zk.text(path + "/b") + zk.buf(b"") + struct.pack(">ii", 0, 0)
    _, err, body = one.call(zk.MULTI, zk.multi_body([first, (zk.CREATE, empty), first]))
    assert (err, zk.parse_multi(body)) == (0, [(-1, 0), (-1, BAD_ACL), (-1, -2)])
    _, err, body = one.call(zk.MULTI, zk.multi_body([(zk.CHECK, zk.delete_body(path, -1)), (zk.CHECK, zk.delete_body(path, 0))]))
    assert (err, zk.parse_multi(body)) == (0, [(13, 0), (13, 0)])


class Faulty:
    """Nodes for each fault of docs/protocol.md §2.5, alone and with another one."""

    def __init__(self, server):
        self.raw = raw = client(server)
        access = {"/shut": SHUT, "/eshut": SHUT, "/qshut": SHUT}

        def make(path, data=b"", flags=0):
            assert raw.call(zk.CREATE, zk.create_body(path, data, flags))[1] == 0, path

        for path in ("/p", "/p/here", "/p/full", "/p/full/x", "/shut", "/shut/x", "/shut/full", "/shut/full/x", "/q", "/q/here", "/qshut",
                     "/qshut/x"):
            make(path)
        for path in ("/e", "/eshut", "/qe"):
            make(path, flags=1)
        make("/hidden")
        for path in ("/q", "/qshut", "/qe"):
            make("/zookeeper/quota" + path)
            make(f"/zookeeper/quota{path}/zookeeper_limits", b"count=-1,bytes=-1=;byteHardLimit=3;countHardLimit=1")
            make(f"/zookeeper/quota{path}/zookeeper_stats", b"count=0,bytes=0")
        access["/hidden"] = zk.acl((2, "world", "anyone"))
        for path, acl in access.items():
            assert raw.call(zk.SET_ACL, zk.text(path) + acl + struct.pack(">i", -1))[1] == 0, path
        self.zxid = raw.ping()[1]

    def error(self, op, body):
        """Of a write, which takes exactly one zxid."""
        zxid, err, rest = self.raw.call(op, body)
        assert (zxid, rest) == (self.zxid + 1, b""), (op, body, err)
        self.zxid = zxid
        return err

    def in_multi(self, op, body):
        zxid, err, rest = self.raw.call(zk.MULTI, zk.multi_body([(op, body)]))
        assert (zxid, err) == (self.zxid + 1, 0)
        self.zxid = zxid
        [(kind, code)] = zk.parse_multi(rest)
        assert kind == -1
        return code


# The rank of a check in the order of create, with its code.
CREATE_CHECKS = {1: -8, 2: -6, 3: -8, 6: -8, 7: -114, 8: -101, 9: -102, 10: -8, 11: -110, 12: -108, 13: -125}
# Paths, and which checks fail for each: every pair that one path can have.
CREATE_PATHS = {
    "nope": {6}, "": {6}, "/p/x\0": {6}, "/missing/x": {8}, "/missing/.": {8, 10}, "/missing/x/": {8, 10}, "/shut/y": {9},
    "/shut/.": {9, 10}, "/shut/x": {9, 11}, "/eshut/y": {9, 12}, "/eshut/.": {9, 10, 12}, "/qshut/y": {9, 13}, "/qshut/x": {9, 11, 13},
    "/p/.": {10}, "/p/..": {10}, "/p//x": {8, 10}, "/p/\x01": {10}, "/p/\ufffd": {10}, "/e/.": {10, 12}, "/q/.": {10, 13},
    "/p/here": {11}, "/q/here": {11, 13}, "/e/y": {12}, "/qe/y": {12, 13}, "/q/new": {13}, "/": {11}, "/p/new": set(),
}
ACLS = {None: zk.OPEN_ACL, "empty": zk.acl(), "null": struct.pack(">i", -1), "world": zk.acl((31, "world", "bob")),
        "scheme": zk.acl((31, "nope", "x")), "auth": zk.acl((31, "auth", "")), "super": zk.acl((31, "super", "x")),
        "digest": zk.acl((31, "digest", "bad")), "ip": zk.acl((31, "ip", "1.2.3"))}


@pytest.mark.parametrize("extended", [False, True])
def test_the_first_failing_check_of_a_create_decides(extended):
    """Pairs and triples of simultaneous faults."""
    # TTLs are valid with extended types alone.
    kinds = [(zk.CREATE, b"", 0), (zk.CREATE2, b"", 0), (zk.CREATE_CONTAINER, b"", 4)]
    kinds += [(zk.CREATE_TTL, struct.pack(">q", 1000), 5)] if extended else []
    # What makes a list invalid has nothing to do with TTLs.
    lists = {name: ACLS[name] for name in (None, "empty")} if extended else ACLS
    with harness.serving(enforceQuota="true", extendedTypesEnabled=str(extended).lower()) as server:
        faulty, tried = Faulty(server), 0
        for op, ttl, plain in kinds:
            for flags, of_flags in ((plain, set()), (7, {1}), (-1, {1}), (5, {3 if extended else 2}), (6, {3 if extended else 2})):
                body_ttl = ttl
                if op == zk.CREATE_TTL and flags in (5, 6):
                    if flags == plain:
                        of_flags = set()
                    else:
                        body_ttl = struct.pack(">q", 0)
                for name, acl in lists.items():
                    for path, of_path in CREATE_PATHS.items():
                        faults = of_flags | of_path | ({7} if name else set())
                        if not faults or (name and name not in ("empty", "scheme") and len(of_path) > 1):
                            continue
                        body = zk.buf(path.encode()) + zk.buf(b"") + acl + struct.pack(">i", flags) + body_ttl
                        due = CREATE_CHECKS[min(faults)]
                        assert faulty.error(op, body) == due, (op, flags, name, path)
                        if of_flags == set() and name != "null":
                            assert faulty.in_multi(op, body) == due, (op, flags, name, path)
                        tried += 1
        assert tried > 500, tried


def test_the_first_failing_check_of_other_writes_decides():
    with harness.serving(enforceQuota="true") as server:
        faulty = Faulty(server)
        checks = {2: -8, 3: -101, 4: -102, 5: -101, 6: -103, 7: -111}
        paths = {"nope": {2}, "/": {2}, "/zookeeper": {2}, "/zookeeper/quota": {2}, "/zookeeper/config": {2}, "/x\0": {2},
                 "/missing/x": {3}, "/shut/none": {4, 5}, "/shut/x": {4}, "/shut/full": {4, 7}, "/p/none": {5}, "/p/": {5}, "/p/.": {5},
                 "/p/full": {7}, "/p/here": set()}
        for path, faults in paths.items():
            for version, wrong in ((-1, set()), (99, {6}), (-2, {6}), (0, set())):
                if faults | wrong:
                    due = checks[min(faults | wrong)]
                    for run in (faulty.error, faulty.in_multi):
                        assert run(zk.DELETE, zk.delete_body(path, version)) == due, (path, version)
        # setData: the quota allows three bytes.
        checks = {2: -8, 3: -101, 4: -102, 5: -125, 6: -103}
        paths = {"nope": {2}, "": {2}, "/p/": {2}, "/p//x": {2}, "/p/.": {2}, "/missing": {3}, "/shut": {4}, "/zookeeper/config": {4},
                 "/qshut": {4, 5}, "/q": {5}, "/q/here": {5}, "/p": set()}
        for path, faults in paths.items():
            for version, wrong in ((-1, set()), (99, {6}), (-2, {6})):
                if faults | wrong:
                    due = checks[min(faults | wrong)]
                    for run in (faulty.error, faulty.in_multi):
                        assert run(zk.SET, zk.set_body(path, b"1234", version)) == due, (path, version)
        # setACL, which no multi may hold.
        checks = {2: -8, 3: -114, 4: -101, 5: -102, 6: -103}
        paths = {"nope": {2}, "": {2}, "/p/": {2}, "/missing": {4}, "/shut": {5}, "/zookeeper/config": {5}, "/p": set()}
        for path, faults in paths.items():
            for name, acl in ACLS.items():
                for version, wrong in ((-1, set()), (99, {6}), (-2, {6})):
                    all_of = faults | wrong | ({3} if name else set())
                    if all_of:
                        found = faulty.error(zk.SET_ACL, zk.text(path) + acl + struct.pack(">i", version))
                        assert found == checks[min(all_of)], (path, name, version)
        # check, in a multi alone.
        checks = {2: -8, 3: -101, 4: -102, 5: -103}
        paths = {"nope": {2}, "": {2}, "/p/": {2}, "/missing": {3}, "/hidden": {4}, "/p": set()}
        for path, faults in paths.items():
            for version, wrong in ((-1, set()), (99, {5}), (-2, {5})):
                if faults | wrong:
                    assert faulty.in_multi(zk.CHECK, zk.delete_body(path, version)) == checks[min(faults | wrong)], (path, version)
        # reconfig: disabled, whatever else is wrong.
        for body in (struct.pack(">iiiq", -1, -1, -1, -1), zk.text("rubbish") + struct.pack(">iiq", -1, -1, 77)):
            assert faulty.error(16, body) == -123


def test_the_first_failing_check_of_reads_decides(fresh):
    faulty = Faulty(fresh)
    raw = faulty.raw
    for op in (zk.GET, zk.CHILDREN, zk.CHILDREN2, 104):
        for path, due in (("/none", -101), ("nope", -101), ("/p/", -101), ("/x\0", -101), ("/hidden", -102), ("/hidden/x", -101)):
            body = zk.text(path) if op == 104 else zk.path_body(path, watch=True)
            assert raw.call(op, body)[1:] == (due, b""), (op, path)
    for path, due in (("/x\0", -8), ("/none", -101), ("nope", -101), ("/hidden", -102), ("/hidden/x", -101)):
        assert raw.call(zk.EXISTS, zk.path_body(path))[1:] == (due, b""), path
    for path, due in (("/none", -101), ("/hidden", -102)):
        assert raw.call(zk.GET_ACL, zk.text(path))[1:] == (due, b""), path
    for op in (zk.CHECK_WATCHES, zk.REMOVE_WATCHES):
        for kind, due in ((0, -5), (6, -5), (-1, -5), (1, -121), (2, -121), (3, -121), (4, -121), (5, -121)):
            assert raw.call(op, zk.watch_body("/none", kind))[1:] == (due, b""), (op, kind)
    for mode, due in ((-1, -5), (2, -5), (7, -5)):
        assert raw.call(zk.ADD_WATCH, zk.watch_body("/none", mode))[1:] == (due, b""), mode
    for op, body in ((zk.GET, b""), (zk.EXISTS, b"\0\0"), (zk.CHILDREN, zk.text("/p")[:-1]), (zk.SYNC, b""), (zk.ADD_WATCH, zk.text("/p"))):
        assert raw.call(op, body)[1:] == (-5, b""), op
    # None of them has left a watch, and each took no zxid.
    assert raw.ping()[1] == faulty.zxid


# What each operation needs of the node (or, where it makes or deletes a child, of the parent).
READ, WRITE, CREATE, DELETE, ADMIN = 1, 2, 4, 8, 16
USER = b"bob:pw"
IDS = {"world": "anyone", "digest": "bob:ikIaKsbtGweaHnb/jKn7OHqbunM=", "ip": "127.0.0.1/32", "auth": ""}


def operations(path, access, n):
    """(what it needs, operation, body)."""
    return [
        (READ, zk.EXISTS, zk.path_body(path)), (READ, zk.GET, zk.path_body(path)), (READ, zk.CHILDREN, zk.path_body(path)),
        (READ, zk.CHILDREN2, zk.path_body(path)), (READ, 104, zk.text(path)), (READ | ADMIN, zk.GET_ACL, zk.text(path)),
        (WRITE, zk.SET, zk.set_body(path, b"x")), (CREATE, zk.CREATE, zk.create_body(f"{path}/{n}", b"")),
        (CREATE, zk.CREATE2, zk.create_body(f"{path}/{n}-2", b"")), (CREATE, zk.CREATE_CONTAINER, zk.create_body(f"{path}/{n}-c", b"", 4)),
        (DELETE, zk.DELETE, zk.delete_body(f"{path}/old{n}")), (ADMIN, zk.SET_ACL, zk.text(path) + access + struct.pack(">i", -1)),
    ]


@pytest.mark.parametrize("scheme", IDS)
def test_permissions_of_every_operation_under_every_scheme(server, path, scheme):
    """Each single permission, held, not held, and by the super user."""
    holder, stranger, root = client(server), client(server, source="127.0.0.2"), client(server)
    assert holder.call(zk.AUTH, zk.auth_body("digest", USER), xid=-4)[1] == 0
    assert stranger.call(zk.AUTH, zk.auth_body("digest", b"bob:guess"), xid=-4)[1] == 0
    assert root.call(zk.AUTH, zk.auth_body("digest", SUPER), xid=-4)[1] == 0
    people = [(holder, True), (stranger, scheme == "world"), (root, None)]
    assert holder.call(zk.CREATE, zk.create_body(path, b""))[1] == 0
    for perms in (0, READ, WRITE, CREATE, DELETE, ADMIN, 31, 31 & ~READ, 31 & ~ADMIN):
        node = f"{path}/{perms}"
        access = zk.acl((perms, scheme, IDS[scheme]))
        assert holder.call(zk.CREATE, zk.create_body(node, b""))[1] == 0
        for n in range(3):
            assert holder.call(zk.CREATE, zk.create_body(f"{node}/old{n}", b""))[1] == 0
        assert holder.call(zk.SET_ACL, zk.text(node) + access + struct.pack(">i", -1))[1] == 0
        for n, (who, holds) in enumerate(people):
            # A super user has no identity but its own digest: `auth` in its list would shut the others out.
            own = access if scheme != "auth" or holds else zk.acl((perms, "digest", IDS["digest"]))
            for needs, op, body in operations(node, own, n):
                may = holds is None or (holds and bool(perms & needs))
                _, err, rest = who.call(op, body)
                assert err == (0 if may else NO_AUTH), (scheme, perms, needs, op, holds)
                if op == zk.GET_ACL and may:
                    name = IDS["digest"] if scheme == "auth" else IDS[scheme]
                    if scheme in ("digest", "auth") and not (holds is None or perms & ADMIN):
                        name = "bob:x"
                    due = zk.acl((perms, "digest" if scheme == "auth" else scheme, name))
                    assert rest[:-68] == due
            _, err, rest = who.call(zk.MULTI, zk.multi_body([(zk.CHECK, zk.delete_body(node))]))
            may = holds is None or (holds and bool(perms & READ))
            assert (err, zk.parse_multi(rest)) == (0, [(13, 0)] if may else [(-1, NO_AUTH)])


def test_identities_are_told_and_lists_are_kept_as_sent(server, path):
    one = client(server)
    assert one.call(107)[1:] == (0, struct.pack(">i", 1) + zk.text("ip") + zk.text("127.0.0.1"))
    for user in (b"bob:pw", b"u:p", b"bob:pw"):
        assert one.call(zk.AUTH, zk.auth_body("digest", user), xid=-4)[1:] == (0, b"")
    _, err, body = one.call(107)
    entries, at = [], 4
    while at < len(body):
        scheme, at = zk.read_buf(body, at)
        user, at = zk.read_buf(body, at)
        entries.append((scheme, user))
    assert (err, sorted(entries)) == (0, [(b"digest", b"bob"), (b"digest", b"u"), (b"ip", b"127.0.0.1")])
    # Duplicates once, the same id with other permissions apart, unknown bits kept, in order.
    sent = [(1, "world", "anyone"), (2, "ip", "010.0.0.0/8"), (1, "world", "anyone"), (30, "digest", ":b"), (97, "world", "anyone")]
    assert one.call(zk.CREATE, zk.create_body(path, b"", access=zk.acl(*sent)))[1] == 0
    kept = zk.acl(sent[0], sent[1], (30, "digest", ":x"), sent[4])
    _, err, body = one.call(zk.GET_ACL, zk.text(path))
    assert (err, body[:-68]) == (0, kept)
    for scheme, data in (("world", b"anyone"), ("nope", b""), ("sasl", b"x"), ("digest", None)):
        other = client(server)
        assert other.call(zk.AUTH, zk.auth_body(scheme, data), xid=-4) == (0, -115, b""), scheme
        assert harness.is_closed(other)


def test_skip_acl_lets_everybody():
    with harness.serving(skipACL="yes") as server:
        one = client(server)
        assert one.call(zk.CREATE, zk.create_body("/a", b"", access=zk.acl((0, "digest", "u:h"))))[1] == 0
        assert one.call(zk.GET, zk.path_body("/a"))[1] == 0
        assert one.call(zk.SET, zk.set_body("/zookeeper/config", b""))[1] == 0


@pytest.mark.parametrize("algorithm, bob", [
    ("SHA-256", "lXdkgIa9O1CDDWAryQ0pe9wUYi2LkG6M7Uocn/Vyn2g="),
    ("SHA512", "jQFpfQMlS0Fkelz3cdxBlcfmOOApGvKAjybCSpc/oHQD7ouOUKaAFXPlHr/2XpjmwJ0yssqB0Mh7gRRVqmyALQ=="),
])
def test_digests_are_made_with_the_configured_algorithm(algorithm, bob):
    with harness.serving(**{"DigestAuthenticationProvider.digestAlg": algorithm}) as server:
        one = client(server)
        assert one.call(zk.AUTH, zk.auth_body("digest", USER), xid=-4)[1] == 0
        assert one.call(zk.CREATE, zk.create_body("/a", b"", access=zk.acl((31, "auth", ""))))[1] == 0
        _, err, body = one.call(zk.GET_ACL, zk.text("/a"))
        assert (err, body[:-68]) == (0, zk.acl((31, "digest", f"bob:{bob}")))
        assert client(server).call(zk.GET, zk.path_body("/a"))[1] == NO_AUTH
        # superDigest was made with SHA-1.
        root = client(server)
        assert root.call(zk.AUTH, zk.auth_body("digest", SUPER), xid=-4)[1] == 0
        assert root.call(zk.GET, zk.path_body("/a"))[1] == NO_AUTH
