"""The table of docs/protocol.md §4.3 on the wire, and setWatches after disconnects at any moment."""

import random
import struct

import pytest

import harness
from harness import asked, client, events_of, zk

SEED = 12
NODE, PARENT, ABOVE = "node", "parent", "above"
SHUT = zk.acl((30, "world", "anyone"))
# (how it is watched, what is watched)
WATCHES = [("getData", NODE), ("exists", NODE), ("getChildren", NODE), ("getChildren2", NODE), ("persistent", NODE), ("recursive", NODE),
           ("getData", PARENT), ("exists", PARENT), ("getChildren", PARENT), ("getChildren2", PARENT), ("persistent", PARENT),
           ("recursive", PARENT), ("persistent", ABOVE), ("recursive", ABOVE)]
CHANGES = ["create", "setData", "delete", "setACL", "check", "failed setData", "failed create", "failed multi", "multi"]


def due_of(kind, on, change):
    """Types of the events, and whether each is of the node or of its parent."""
    if kind in ("getChildren", "getChildren2"):
        if on == NODE:
            return {"delete": [(2, NODE)], "multi": [(2, NODE)]}.get(change, [])
        return {"create": [(4, PARENT)], "delete": [(4, PARENT)], "multi": [(4, PARENT)]}.get(change, []) if on == PARENT else []
    of_node = {"create": [(1, NODE)], "setData": [(3, NODE)], "delete": [(2, NODE)]}.get(change, [])
    if change == "multi":
        # setData, delete, create: a standard watch is used up by the first.
        of_node = [(3, NODE)] if kind in ("getData", "exists") else [(3, NODE), (2, NODE), (1, NODE)]
    if kind == "recursive":
        return of_node
    if on == NODE:
        return of_node
    if on == PARENT and kind == "persistent":
        return {"create": [(4, PARENT)], "delete": [(4, PARENT)], "multi": [(4, PARENT)] * 2}.get(change, [])
    return []


def watch(raw, kind, path):
    if kind in ("persistent", "recursive"):
        op, body = zk.ADD_WATCH, zk.watch_body(path, ["persistent", "recursive"].index(kind))
    else:
        op = {"getData": zk.GET, "exists": zk.EXISTS, "getChildren": zk.CHILDREN, "getChildren2": zk.CHILDREN2}[kind]
        body = zk.path_body(path, watch=True)
    return raw.call(op, body)[1]


def change_of(change, node):
    """(operation, body, error)."""
    if change == "create":
        return zk.CREATE, zk.create_body(node, b""), 0
    if change == "setData":
        return zk.SET, zk.set_body(node, b""), 0
    if change == "delete":
        return zk.DELETE, zk.delete_body(node), 0
    if change == "setACL":
        return zk.SET_ACL, zk.text(node) + zk.OPEN_ACL + struct.pack(">i", -1), 0
    if change == "check":
        return zk.MULTI, zk.multi_body([(zk.CHECK, zk.delete_body(node))]), 0
    if change == "failed setData":
        return zk.SET, zk.set_body(node, b"", 77), -103
    if change == "failed create":
        return zk.CREATE, zk.create_body(node, b""), -110
    ops = [(zk.SET, zk.set_body(node, b"")), (zk.DELETE, zk.delete_body(node)), (zk.CREATE, zk.create_body(node, b""))]
    if change == "failed multi":
        ops.append((zk.CHECK, zk.delete_body(node, 77)))
    return zk.MULTI, zk.multi_body(ops), 0


@pytest.mark.parametrize("own", [False, True])
def test_the_trigger_table(server, path, own):
    """Each kind of watch on the node, its parent and above × each change × by another session and by the watching one."""
    actor = client(server)
    assert actor.call(zk.CREATE, zk.create_body(path, b""))[1] == 0
    tried = 0
    for n, (kind, on) in enumerate(WATCHES):
        for change in CHANGES:
            top = f"{path}/{n}-{change.replace(' ', '-')}"
            parent, node = top + "/p", top + "/p/n"
            for made in (top, parent) + (() if change == "create" else (node,)):
                assert actor.call(zk.CREATE, zk.create_body(made, b""))[1] == 0
            watcher = client(server)
            watched = {NODE: node, PARENT: parent, ABOVE: top}[on]
            absent = change == "create" and on == NODE
            err = watch(watcher, kind, watched)
            if absent and kind.startswith("get"):
                # A read that finds nothing leaves nothing.
                assert err == -101
                due = []
            else:
                assert err == (-101 if absent and kind == "exists" else 0)
                due = [(of, {NODE: node, PARENT: parent}[where]) for of, where in due_of(kind, on, change)]
            op, body, error = change_of(change, node)
            before, (zxid, found, _) = asked(watcher if own else actor, op, body)
            assert found == error, (kind, on, change)
            if own:
                assert before == [(zxid, *event) for event in due], (kind, on, change)
                assert events_of(watcher) == []
            else:
                assert before == [] and events_of(watcher) == [(zxid, *event) for event in due], (kind, on, change)
            # Standard watches are used up, the others are not.
            if due and kind not in ("persistent", "recursive"):
                assert watcher.call(zk.CHECK_WATCHES, zk.watch_body(watched, 3))[1] == -121
            elif not absent or kind in ("exists", "persistent", "recursive"):
                assert watcher.call(zk.CHECK_WATCHES, zk.watch_body(watched, 3))[1] == 0
            watcher.close()
            tried += 1
    assert tried == len(WATCHES) * len(CHANGES)


def test_a_delete_is_told_once_whatever_watches_there_are(server, path):
    """Data, child, persistent and recursive watches of one connection on the node: one event; with one on the parent, two."""
    actor, watcher = client(server), client(server)
    parent, node = path, path + "/n"
    assert actor.call(zk.CREATE, zk.create_body(parent, b""))[1] == 0
    for more, due in ((["getData", "getChildren"], [(2, node)]), (["persistent"], [(2, node)]), (["recursive"], [(2, node)]),
                      (["exists", "persistent", "recursive", "getChildren"], [(2, node)])):
        assert actor.call(zk.CREATE, zk.create_body(node, b""))[1] == 0
        assert events_of(watcher) == []
        for kind in more:
            assert watch(watcher, kind, node) == 0
        assert watch(watcher, "getChildren", parent) == 0
        zxid, err, _ = actor.call(zk.DELETE, zk.delete_body(node))
        assert err == 0
        assert events_of(watcher) == [(zxid, kind, of) for kind, of in [*due, (4, parent)]]
        watcher.call(zk.REMOVE_WATCHES, zk.watch_body(node, 3))
        assert watcher.call(zk.CHECK_WATCHES, zk.watch_body(node, 3))[1] == -121


def gone(watcher, path):
    """Waits for the event of a delete; its zxid."""
    zxid, kind, of = harness.event(watcher.reply())
    assert (kind, of) == (2, path)
    return zxid


@pytest.mark.parametrize("cause", ["close", "expiry", "container", "ttl"])
def test_a_delete_that_nobody_asks_for_is_told_as_any_other(cause):
    """A node that goes with its session, as a container without children, or at the end of its time."""
    with harness.serving(extendedTypesEnabled="true", **{"znode.container.checkIntervalMs": 500}) as server:
        actor, last = client(server), client(server)
        for attempt in range(20):
            top = f"/{attempt}"
            parent, node = top + "/p", top + "/p/n"
            owner = client(server, timeout=1500) if cause == "expiry" else client(server)
            make = {"container": (zk.CREATE_CONTAINER, zk.create_body(node, b"", 4)),
                    "ttl": (zk.CREATE_TTL, zk.create_body(node, b"", 5) + struct.pack(">q", 1))}
            for op, body in ((zk.CREATE, zk.create_body(top, b"")), (zk.CREATE, zk.create_body(parent, b""))):
                assert actor.call(op, body)[1] == 0
            assert owner.call(*make.get(cause, (zk.CREATE, zk.create_body(node, b"", flags=1))))[1] == 0
            if cause == "container":
                assert owner.call(zk.CREATE, zk.create_body(node + "/c", b""))[1] == 0
                assert owner.call(zk.DELETE, zk.delete_body(node + "/c"))[1] == 0
            watchers = [(kind, on, client(server)) for kind, on in WATCHES]
            errors = [watch(who, kind, {NODE: node, PARENT: parent, ABOVE: top}[on]) for kind, on, who in watchers]
            errors.append(watch(last, "persistent", node))
            if actor.call(zk.EXISTS, zk.path_body(node))[1] == 0:
                break
            # The server was faster than the watches.
            for _, _, who in watchers:
                who.close()
            events_of(last)
        assert errors == [0] * len(errors)
        if cause == "close":
            owner.ask(zk.CLOSE)
        elif cause == "expiry":
            owner.reset()
        zxid = gone(last, node)
        for kind, on, who in watchers:
            due = [(zxid, of, {NODE: node, PARENT: parent}[where]) for of, where in due_of(kind, on, "delete")]
            assert events_of(who) == due, (kind, on)


def test_the_totals_of_a_quota_tell_nobody(fresh):
    """They change with each write below the path; whoever watches them hears of what clients do to them, and of nothing else."""
    actor, above = client(fresh), "/zookeeper/quota"
    parent, node = above + "/q", above + "/q/zookeeper_stats"
    for path, data in (("/q", b""), (parent, b""), (parent + "/zookeeper_limits", b"count=-1,bytes=-1"), (node, b"count=1,bytes=0")):
        assert actor.call(zk.CREATE, zk.create_body(path, data))[1] == 0

    def totals():
        return zk.read_buf(actor.call(zk.GET, zk.path_body(node))[2], 0)[0].split(b"=;")[0]

    watchers = [(kind, on, client(fresh)) for kind, on in WATCHES]
    for kind, on, who in watchers:
        assert watch(who, kind, {NODE: node, PARENT: parent, ABOVE: above}[on]) == 0
    for op, body, due in ((zk.CREATE, zk.create_body("/q/a", b"123"), b"count=2,bytes=3"), (zk.SET, zk.set_body("/q/a", b"12345"), b"count=2,bytes=5"),
                          (zk.DELETE, zk.delete_body("/q/a"), b"count=1,bytes=0")):
        assert actor.call(op, body)[1] == 0
        assert totals() == due
    for kind, on, who in watchers:
        assert events_of(who) == [], (kind, on)
    zxid, err, _ = actor.call(zk.SET, zk.set_body(node, b"count=1,bytes=0"))
    assert err == 0
    for kind, on, who in watchers:
        due = [(zxid, of, {NODE: node, PARENT: parent}[where]) for of, where in due_of(kind, on, "setData")]
        assert events_of(who) == due, (kind, on)


def test_an_event_is_for_those_who_may_read(server, path):
    """It is dropped in silence, and a standard watch is used up all the same; catch-up events are not filtered."""
    actor, watcher = client(server), client(server)
    assert actor.call(zk.CREATE, zk.create_body(path, b""))[1] == 0
    node = path + "/n"
    assert watch(watcher, "exists", node) == -101
    assert actor.call(zk.CREATE, zk.create_body(node, b"", access=SHUT))[1] == 0
    assert events_of(watcher) == []
    assert watcher.call(zk.CHECK_WATCHES, zk.watch_body(node, 2))[1] == -121
    assert watch(watcher, "persistent", node) == 0
    assert actor.call(zk.SET, zk.set_body(node, b""))[1] == 0
    assert events_of(watcher) == []
    assert watcher.call(zk.CHECK_WATCHES, zk.watch_body(node, 4))[1] == 0
    # Who may not read leaves no watch.
    assert watcher.call(zk.GET, zk.path_body(node, watch=True))[1] == -102
    assert watcher.call(zk.CHECK_WATCHES, zk.watch_body(node, 2))[1] == -121
    lists = struct.pack(">qi", 0, 1) + zk.text(node) + struct.pack(">ii", 0, 0)
    watcher.ask(zk.SET_WATCHES, lists, xid=-8)
    events, answer = harness.events_until(watcher, -8)
    assert (events, answer[2]) == ([(-1, 3, node)], 0)


def catch_up(table, stat, seen):
    """The event for a watch of this list, if there is one (docs/protocol.md §4.6)."""
    if table == "exist":
        return 1 if stat else None
    if stat is None:
        return 2
    if table == "data":
        return 3 if stat["mzxid"] > seen else None
    return 4 if stat["pzxid"] > seen else None


def test_set_watches_after_any_disconnect_loses_and_repeats_nothing(server, path):
    """Standard watches of every kind; the connection is dropped at any moment between changes. Each watch tells of the
    first change behind what its client has seen, exactly once: before the drop, by a catch-up event, or later."""
    rng = random.Random(SEED)
    actor, watcher = client(server), client(server)
    assert actor.call(zk.CREATE, zk.create_body(path, b""))[1] == 0
    names = [f"{path}/{n}" for n in range(8)]
    told = {"event": 0, "catch-up": 0, "later": 0}

    def exists(of):
        _, err, body = actor.call(zk.EXISTS, zk.path_body(of))
        return zk.stat_at(body, 0) if err == 0 else None

    def change():
        of = rng.choice(names)
        there = exists(of)
        kind = rng.choice(["data", "child", "end"])
        if there is None:
            op, body = zk.CREATE, zk.create_body(of, b"")
        elif kind == "data":
            op, body = zk.SET, zk.set_body(of, b"x")
        elif there["numChildren"]:
            op, body = zk.DELETE, zk.delete_body(of + "/c")
        elif kind == "child":
            op, body = zk.CREATE, zk.create_body(of + "/c", b"")
        else:
            op, body = zk.DELETE, zk.delete_body(of)
        assert actor.call(op, body)[1] == 0

    def fired(events, when, armed):
        """Takes the watches that an event uses up; an event that none was there for is a repetition."""
        for _, kind, of in events:
            tables = {1: ("exist",), 2: ("data", "child"), 3: ("data",), 4: ("child",)}[kind]
            own = {(table, name) for table, name in armed if name == of and table in tables}
            assert own, f"event {kind} of {of}, which nobody watches: {sorted(armed)}"
            armed -= own
            told[when] += len(own)

    for _ in range(60):
        armed = set()
        for of in rng.sample(names, 5):
            kind = rng.choice(["data", "exist", "child"])
            err = watch(watcher, {"data": "getData", "exist": "exists", "child": "getChildren"}[kind], of)
            if err == 0 or kind == "exist":
                # exists on a node that is there leaves the same watch as getData.
                armed.add((kind if kind != "exist" or err else "data", of))
        for _ in range(rng.randrange(4)):
            change()
        watcher.ask(zk.SYNC, zk.text("/"))
        events, answer = harness.events_until(watcher, watcher.xid)
        fired(events, "event", armed)
        seen = answer[1]
        session, password = watcher.session, watcher.password
        for _ in range(rng.randrange(3)):
            change()
        watcher.reset() if rng.random() < 0.5 else watcher.close()
        for _ in range(rng.randrange(4)):
            change()
        watcher = client(server, session=session, password=password, seen=seen)
        due, left = [], set(armed)
        body = struct.pack(">q", seen)
        for table in ("data", "exist", "child"):
            listed = sorted(of for kind, of in armed if kind == table)
            body += struct.pack(">i", len(listed)) + b"".join(map(zk.text, listed))
            for of in listed:
                kind = catch_up(table, exists(of), seen)
                if kind:
                    due.append((-1, kind, of))
                    left.discard((table, of))
        told["catch-up"] += len(due)
        watcher.call(zk.SYNC, zk.text("/"))
        watcher.ask(zk.SET_WATCHES, body, xid=-8)
        events, answer = harness.events_until(watcher, -8)
        assert answer[2:] == (0, b"")
        assert events == due
        # What is left tells of the next change, once.
        for of in names:
            if exists(of) is None:
                assert actor.call(zk.CREATE, zk.create_body(of, b""))[1] == 0
            else:
                assert actor.call(zk.SET, zk.set_body(of, b"y"))[1] == 0
                there = exists(of)
                op, rest = (zk.DELETE, zk.delete_body(of + "/c")) if there["numChildren"] else (zk.CREATE, zk.create_body(of + "/c", b""))
                assert actor.call(op, rest)[1] == 0
        watcher.ask(zk.SYNC, zk.text("/"))
        events, _ = harness.events_until(watcher, watcher.xid)
        fired(events, "later", left)
        assert not left, f"watches that told nothing: {left}"
    assert min(told.values()) > 20, told
