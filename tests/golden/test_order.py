"""Handshakes, order, and the life of sessions, as far as a client sees it."""

import random
import struct
import time

import harness
from harness import client, events_of, is_closed, zk

SEED = 10


def test_a_thousand_pipelined_requests_of_every_kind_are_answered_in_order(server, path):
    """Writes, reads behind them, pings, requests that fail or do not parse: each answer shows all that was sent before,
    and nothing that was sent behind."""
    rng = random.Random(SEED)
    one = client(server)
    assert one.call(zk.CREATE, zk.create_body(path, b"0"))[1] == 0
    sent, due, version, made = [], [], 0, 0
    for xid in range(2, 1002):
        kind = rng.randrange(10)
        if kind == 0:
            version += 1
            sent.append(zk.request(xid, zk.SET, zk.set_body(path, b"%d" % version, version - 1)))
            due.append((xid, 0, lambda body, v=version: zk.stat_at(body, 0)["version"] == v))
        elif kind == 1:
            sent.append(zk.request(xid, zk.GET, zk.path_body(path)))
            due.append((xid, 0, lambda body, v=version: zk.read_buf(body, 0)[0] == b"%d" % v))
        elif kind == 2:
            sent.append(zk.request(xid, zk.SET, zk.set_body(path, b"never", version + 7)))
            due.append((xid, -103, None))
        elif kind == 3:
            sent.append(zk.request(xid, zk.CREATE, zk.create_body(path, b"")))
            due.append((xid, -110, None))
        elif kind == 4:
            ops = [(zk.CHECK, zk.delete_body(path, version)), (zk.SET, zk.set_body(path, b"%d" % (version + 1), -1))]
            version += 1
            sent.append(zk.request(xid, zk.MULTI, zk.multi_body(ops)))
            due.append((xid, 0, lambda body: zk.parse_multi(body) == [(13, 0), (5, 0)]))
        elif kind == 5:
            sent.append(zk.request(xid, zk.EXISTS, zk.path_body(path)))
            due.append((xid, 0, lambda body, v=version: zk.stat_at(body, 0)["version"] == v))
        elif kind == 6:
            sent.append(zk.request(xid, zk.GET, b"\x7f\xff\xff\xff"))
            due.append((xid, -5, None))
        elif kind == 7:
            sent.append(zk.request(-2, zk.PING))
            due.append((-2, 0, lambda body: body == b""))
        elif kind == 8:
            sent.append(zk.request(xid, zk.CREATE, zk.create_body(f"{path}/n-", b"", flags=2)))
            due.append((xid, 0, lambda body, n=made: body == zk.text(f"{path}/n-{n:010}")))
            made += 1
        else:
            sent.append(zk.request(xid, zk.SYNC, zk.text(path)))
            due.append((xid, 0, lambda body: body == zk.text(path)))
    one.sock.sendall(b"".join(sent))
    last = 0
    for xid, err, holds in due:
        found = one.reply()
        assert found[0::2][:2] == (xid, err), (found, xid, err)
        assert found[1] >= last, "zxids of replies never decrease"
        last = found[1]
        if holds:
            assert holds(found[3]), found
        else:
            assert found[3] == b"", "an error has no body"
    assert events_of(one) == []


def test_auth_and_pings_keep_their_place(server, path):
    """Apache may let them overtake (docs/protocol.md §10.1)."""
    one = client(server)
    mine = zk.text(path) + zk.buf(b"") + zk.acl((31, "auth", "")) + struct.pack(">i", 0)
    requests = [zk.request(1, zk.CREATE, mine), zk.request(-4, zk.AUTH, zk.auth_body("digest", b"u:p")), zk.request(2, zk.CREATE, mine),
                zk.request(-2, zk.PING), zk.request(3, zk.GET, zk.path_body(path))]
    one.sock.sendall(b"".join(requests))
    answers = [one.reply() for _ in requests]
    due = [(1, -114), (-4, 0), (2, 0), (-2, 0), (3, 0)]
    found = [(xid, err) for xid, _, err, _ in answers]
    if harness.IS_APACHE:
        found, due = sorted(found), sorted(due)
    assert found == due


def test_a_handshake_goes_to_who_may_have_the_session(server, path):
    one = client(server)
    assert one.call(zk.CREATE, zk.create_body(path, b"", flags=1))[1] == 0
    # From the future: no answer, and the session is not told dead.
    seen = zk.Raw(server.port, timeout=harness.PATIENCE_S)
    seen.send_frame(seen.connect_payload(seen=1 << 40, session=one.session, password=one.password))
    assert is_closed(seen)
    # What was seen is just what there is.
    zxid = one.ping()[1]
    again = client(server, session=one.session, password=one.password, seen=zxid, timeout=7000)
    assert (again.session, again.password, again.timeout) == (one.session, one.password, 7000)
    assert is_closed(one)
    # Pipelined behind the handshake: auth, setWatches, requests.
    third = zk.Raw(server.port, timeout=harness.PATIENCE_S)
    third.send_frame(third.connect_payload(session=one.session, password=one.password, seen=zxid))
    lists = struct.pack(">qi", zxid, 1) + zk.text(path) + struct.pack(">ii", 0, 0)
    third.sock.sendall(zk.request(-4, zk.AUTH, zk.auth_body("digest", b"u:p")) + zk.request(-8, zk.SET_WATCHES, lists)
                       + zk.request(5, zk.SET, zk.set_body(path, b"x")))
    third.connected()
    assert third.session == one.session
    assert [third.reply()[0::2][:2] for _ in range(2)] == [(-4, 0), (-8, 0)]
    events, answer = harness.events_until(third, 5)
    assert [(kind, of) for _, kind, of in events] == [(3, path)] and answer[2] == 0
    assert is_closed(again)


def test_timeouts_are_brought_between_the_bounds(server):
    for asked, given in ((0, 500), (-1, 500), (-(1 << 31), 500), (499, 500), (500, 500), (501, 501), (60000, 60000), (60001, 60000),
                         ((1 << 31) - 1, 60000)):
        one = client(server, timeout=asked)
        assert one.timeout == given, asked
        one.close()


def gone(server, path):
    """Waits until a node is gone, asked for by somebody else."""
    other = client(server)
    until = time.monotonic() + harness.PATIENCE_S
    while other.call(zk.EXISTS, zk.path_body(path))[1] == 0:
        assert time.monotonic() < until, f"{path} stays"
        time.sleep(0.02)
    other.close()


def test_ephemerals_go_with_a_close_at_once_and_with_a_silent_session_later(fresh):
    """They outlive the connection, a stop and a crash of the server."""
    watcher = client(fresh)
    assert watcher.call(zk.ADD_WATCH, zk.watch_body("/", 1))[1] == 0
    closing = client(fresh)
    for name in ("/c1", "/c2"):
        assert closing.call(zk.CREATE, zk.create_body(name, b"", flags=1))[1] == 0
    events_of(watcher)
    closing.ask(zk.CLOSE)
    events, answer = harness.events_until(closing, closing.xid)
    assert (events, answer[2], answer[3]) == ([], 0, b"")
    assert is_closed(closing)
    deletes = events_of(watcher)
    assert sorted(deletes) == [(answer[1], 2, "/c1"), (answer[1], 2, "/c2")], "both with the zxid of the closeSession"
    # The client is killed: nothing happens at first, everything later.
    killed = client(fresh, timeout=1500)
    assert killed.call(zk.CREATE, zk.create_body("/k", b"", flags=1))[1] == 0
    killed.reset()
    assert [event[1:] for event in events_of(watcher)] == [(1, "/k")]
    assert watcher.call(zk.EXISTS, zk.path_body("/k"))[1] == 0
    gone(fresh, "/k")
    assert [event[1:] for event in events_of(watcher)] == [(2, "/k")]
    dead = zk.Raw(fresh.port, timeout=harness.PATIENCE_S)
    assert dead.connect(session=killed.session, password=killed.password) == struct.pack(">iiqi", 0, 0, 0, 16) + bytes(17)
    assert is_closed(dead)
    # The server is killed: who comes back keeps what it had, who does not loses it.
    stays, leaves = client(fresh, timeout=30000), client(fresh, timeout=1500)
    for who, name in ((stays, "/stays"), (leaves, "/leaves")):
        assert who.call(zk.CREATE, zk.create_body(name, b"", flags=1))[1] == 0
    fresh.kill9()
    fresh.start()
    back = client(fresh, session=stays.session, password=stays.password)
    assert back.session == stays.session
    gone(fresh, "/leaves")
    _, err, body = back.call(zk.EXISTS, zk.path_body("/stays"))
    assert err == 0 and zk.stat_at(body, 0)["ephemeralOwner"] == back.session


def test_nothing_of_an_old_connection_executes_once_the_session_has_moved(server, path):
    """Both connections write without waiting; whatever the old one has written comes before the first write of the new one."""
    first = client(server)
    session, password = first.session, first.password
    assert first.call(zk.CREATE, zk.create_body(path, b""))[1] == 0
    old = first
    for turn in range(20):
        for n in range(50):
            try:
                old.ask(zk.CREATE, zk.create_body(f"{path}/{turn}-old-", b"", flags=2))
            except OSError:
                break
        new = zk.Raw(server.port, timeout=harness.PATIENCE_S)
        new.connect(session=session, password=password, timeout=30000)
        assert new.session == session
        new.ask(zk.CREATE, zk.create_body(f"{path}/{turn}-new-", b"", flags=2))
        assert new.reply()[2] == 0
        old.close()
        old = new
    names, _ = zk.read_names(old.call(zk.CHILDREN, zk.path_body(path))[2])
    # The number that all creates below the parent share says which came first.
    order = sorted(names, key=lambda name: int(name[-10:]))
    for turn in range(20):
        of_turn = [name for name in order if name.startswith(f"{turn}-")]
        news = [n for n, name in enumerate(of_turn) if "-new-" in name]
        assert news == [len(of_turn) - 1], f"a write of the old connection behind one of the new: {of_turn}"


def test_reads_never_go_back_and_see_the_own_writes(server, path):
    """Two clients, on two shards if there are any: each reads what it has written, and what the other one has written only grows."""
    one, other = client(server), client(server)
    assert one.call(zk.CREATE, zk.create_body(path, b"0"))[1] == 0
    other.call(zk.SYNC, zk.text(path))
    last = -1
    for n in range(1, 300):
        one.ask(zk.SET, zk.set_body(path, b"%d" % n))
        one.ask(zk.GET, zk.path_body(path))
        other.ask(zk.GET, zk.path_body(path))
        seen = int(zk.read_buf(other.reply()[3], 0)[0])
        assert seen >= last
        last = seen
        assert one.reply()[2] == 0
        assert zk.read_buf(one.reply()[3], 0)[0] == b"%d" % n
    other.ask(zk.SYNC, zk.text(path))
    other.ask(zk.GET, zk.path_body(path))
    assert other.reply()[3] == zk.text(path)
    assert zk.read_buf(other.reply()[3], 0)[0] == b"299"
