"""What kazoo asks for directly: nodes, versions, ACLs, transactions, watches, sessions."""

import struct
import threading

import pytest
import rawzk
from kazoo import security
from kazoo.client import KazooState
from kazoo.exceptions import (
    BadArgumentsError, BadVersionError, InvalidACLError, NoAuthError, NoChildrenForEphemeralsError, NodeExistsError,
    NoNodeError, NotEmptyError, RolledBackError, RuntimeInconsistency)
from proxy import Proxy
from server import Server

PATIENCE = 30


def test_create_get_set_delete(zk):
    assert zk.create("/a", b"one") == "/a"
    data, stat = zk.get("/a")
    assert (data, stat.version, stat.dataLength, stat.numChildren) == (b"one", 0, 3, 0)
    changed = zk.set("/a", b"two")
    assert (changed.version, changed.czxid) == (1, stat.czxid) and changed.mzxid > stat.mzxid
    zk.delete("/a")
    assert zk.exists("/a") is None


def test_create_with_stat(zk):
    path, stat = zk.create("/a", b"x", include_data=True)
    assert path == "/a" and stat == zk.exists("/a")


def test_stat_counts_children(zk):
    zk.create("/a")
    for name in "bcd":
        zk.create(f"/a/{name}")
    zk.delete("/a/b")
    stat = zk.exists("/a")
    assert (stat.cversion, stat.numChildren, stat.version) == (4, 2, 0)
    assert stat.pzxid > zk.exists("/a/d").czxid


def test_errors(zk):
    with pytest.raises(NoNodeError):
        zk.get("/missing")
    with pytest.raises(NoNodeError):
        zk.create("/missing/below")
    with pytest.raises(NoNodeError):
        zk.get_children("/missing")
    zk.create("/a")
    with pytest.raises(NodeExistsError):
        zk.create("/a")
    with pytest.raises(BadVersionError):
        zk.set("/a", b"", version=7)
    with pytest.raises(BadVersionError):
        zk.delete("/a", version=7)
    zk.create("/a/b")
    with pytest.raises(NotEmptyError):
        zk.delete("/a")
    zk.create("/e", ephemeral=True)
    with pytest.raises(NoChildrenForEphemeralsError):
        zk.create("/e/below")


def test_protected_nodes(connect):
    zk = connect(chroot=False)
    for path in ("/zookeeper", "/zookeeper/quota", "/zookeeper/config"):
        with pytest.raises(BadArgumentsError):
            zk.delete(path)
    assert zk.get("/zookeeper/config")[0] == b""
    with pytest.raises(NoAuthError):
        zk.set("/zookeeper/config", b"x")


def test_null_and_empty_data_differ(zk, server):
    """In the reply's own bytes, whatever kazoo makes of them: null has the length -1, empty has 0."""
    zk.create("/empty", b"")
    zk.create("/null", None)
    wire = rawzk.Raw(server.port)
    wire.connect()
    for name, length in (("empty", 0), ("null", -1)):
        path = rawzk.text(f"{zk.chroot}/{name}")
        _, err, body = wire.call(rawzk.GET, path + b"\0")
        assert err == 0 and body[:4] == struct.pack(">i", length), (name, body[:4])
        assert rawzk.stat_at(body, 4)["dataLength"] == 0
        assert len(body) == 4 + rawzk.STAT.size
    wire.call(rawzk.CLOSE)
    wire.close()


def test_sequences(zk):
    zk.create("/seq")
    first = [zk.create("/seq/n-", sequence=True) for _ in range(3)]
    assert first == [f"/seq/n-{n:010}" for n in range(3)]
    for path in first:
        zk.delete(path)
    assert zk.create("/seq/m-", sequence=True) == "/seq/m-0000000003"


def test_ephemerals_end_with_their_session(connect):
    one, other = connect(), connect()
    one.create("/e", b"x", ephemeral=True)
    gone = threading.Event()
    assert other.exists("/e", watch=lambda event: gone.set()).ephemeralOwner == one.client_id[0]
    one.stop()
    assert gone.wait(PATIENCE), "kazoo does not wait for the answer to its close"
    assert other.exists("/e") is None


def test_makepath_and_recursive_delete(zk):
    zk.create("/a/b/c/d", makepath=True)
    zk.delete("/a", recursive=True)
    assert zk.exists("/a") is None


def test_unicode_paths(zk):
    zk.create("/é/ü", b"x", makepath=True)
    assert zk.get_children("/é") == ["ü"]


def test_children_with_data(zk):
    zk.create("/a", b"x")
    zk.create("/a/b")
    children, stat = zk.get_children("/a", include_data=True)
    assert (children, stat.numChildren) == (["b"], 1)


def test_transaction(zk):
    zk.create("/a", b"x")
    t = zk.transaction()
    t.create("/t", b"1")
    t.create("/t/below", b"2")
    t.check("/a", 0)
    t.set_data("/a", b"y")
    t.delete("/t/below")
    created, below, checked, changed, deleted = t.commit()
    assert (created, below, checked, changed.version, deleted) == ("/t", "/t/below", True, 1, True)
    assert zk.get_children("/t") == []


def test_failed_transaction_changes_nothing(zk):
    zk.create("/a", b"x")
    t = zk.transaction()
    t.set_data("/a", b"y")
    t.check("/a", 7)
    t.create("/b")
    results = t.commit()
    assert [type(r) for r in results] == [RolledBackError, BadVersionError, RuntimeInconsistency]
    assert zk.get("/a")[0] == b"x" and zk.exists("/b") is None


def test_empty_transaction_and_sequences_inside(zk):
    assert zk.transaction().commit() == []
    t = zk.transaction()
    t.create("/s-", sequence=True)
    t.create("/s-", sequence=True)
    one, other = t.commit()
    assert int(other[-10:]) == int(one[-10:]) + 1


def test_sync(zk):
    assert zk.sync("/") == "/"


def test_a_thousand_pipelined_operations_in_order(zk):
    zk.create("/p", b"")
    results = []
    for n in range(500):
        results.append(zk.set_async("/p", b"%d" % n))
        results.append(zk.get_async("/p"))
    for n in range(500):
        assert results[2 * n].get(timeout=PATIENCE).version == n + 1
        assert results[2 * n + 1].get(timeout=PATIENCE)[0] == b"%d" % n


def test_big_nodes(connect):
    zk = connect(connection_retry=None)
    big = bytes(1_000_000)
    zk.create("/big", big)
    assert zk.get("/big")[0] == big
    lost = threading.Event()
    zk.add_listener(lambda state: state != KazooState.CONNECTED and lost.set())
    with pytest.raises(Exception):
        zk.set("/big", bytes(1_100_000))
    assert lost.wait(PATIENCE), "a frame beyond jute.maxbuffer closes the connection"


def test_watches_fire_once(zk):
    events = []
    fired = threading.Event()

    def watch(event):
        events.append((event.type, event.path))
        fired.set()

    assert zk.exists("/w", watch=watch) is None
    zk.create("/w", b"1")
    assert fired.wait(PATIENCE)
    zk.set("/w", b"2")
    fired.clear()
    zk.get("/w", watch=watch)
    zk.get_children("/w", watch=watch)
    zk.delete("/w")
    assert fired.wait(PATIENCE)
    zk.exists("/")
    assert events[0] == ("CREATED", "/w") and set(events[1:]) == {("DELETED", "/w")}


def test_acl_and_auth(connect):
    owner, stranger = connect(), connect()
    owner.add_auth("digest", "owner:secret")
    acl = [security.make_digest_acl("owner", "secret", all=True)]
    owner.create("/private", b"x", acl=acl)
    with pytest.raises(NoAuthError):
        stranger.get("/private")
    with pytest.raises(NoAuthError):
        stranger.set("/private", b"y")
    with pytest.raises(NoAuthError):
        stranger.create("/private/below")
    assert owner.get("/private")[0] == b"x"
    stranger.add_auth("digest", "owner:secret")
    assert stranger.get("/private")[0] == b"x"


def test_acls_are_read_changed_and_masked(connect):
    owner, stranger = connect(), connect()
    owner.add_auth("digest", "owner:secret")
    acl = [security.make_digest_acl("owner", "secret", all=True), security.make_acl("world", "anyone", read=True)]
    owner.create("/shared", b"x", acl=acl)
    assert sorted(a.id.id for a in owner.get_acls("/shared")[0]) == sorted(a.id.id for a in acl)
    assert "owner:x" in [a.id.id for a in stranger.get_acls("/shared")[0]]
    assert owner.set_acls("/shared", security.OPEN_ACL_UNSAFE).aversion == 1
    stranger.set("/shared", b"y")


def test_creator_all_and_bad_acls(connect):
    owner, stranger = connect(), connect()
    with pytest.raises(InvalidACLError):
        owner.create("/mine", acl=security.CREATOR_ALL_ACL)
    owner.add_auth("digest", "owner:secret")
    owner.create("/mine", acl=security.CREATOR_ALL_ACL)
    with pytest.raises(NoAuthError):
        stranger.get("/mine")
    with pytest.raises(InvalidACLError):
        owner.create("/bad", acl=[security.make_acl("nobody", "x", all=True)])
    owner.set_acls("/mine", security.OPEN_ACL_UNSAFE)


def test_auth_with_the_connection(connect):
    zk = connect(auth_data=[("digest", "owner:secret")])
    zk.create("/mine", acl=security.CREATOR_ALL_ACL)
    assert zk.get_acls("/mine")[0][0].id.scheme == "digest"


def test_reconnect_keeps_session_ephemerals_and_watches(server, connect):
    proxy = Proxy(server.port)
    try:
        away, other = connect(port=proxy.port), connect()
        session, states, changed = away.client_id, [], threading.Condition()

        def listen(state):
            with changed:
                states.append(state)
                changed.notify()

        def wait_for(*expected):
            with changed:
                assert changed.wait_for(lambda: states == list(expected), PATIENCE), states

        away.create("/e", ephemeral=True)
        away.create("/watched", b"1")
        seen, fired = [], threading.Event()
        away.DataWatch("/watched", lambda data, stat: (seen.append(data), data == b"2" and fired.set()) and None)
        away.add_listener(listen)
        proxy.cut()
        wait_for(KazooState.SUSPENDED)
        assert other.exists("/e").ephemeralOwner == session[0]
        other.set("/watched", b"2")
        proxy.heal()
        wait_for(KazooState.SUSPENDED, KazooState.CONNECTED)
        assert away.client_id == session
        assert away.retry(away.exists, "/e").ephemeralOwner == session[0]
        assert fired.wait(PATIENCE), seen
    finally:
        proxy.close()


def test_a_session_expires(server, connect):
    import rawzk
    watcher = connect(chroot=False)
    dying = rawzk.Raw(server.port)
    dying.connect(timeout=500)
    assert dying.call(rawzk.CREATE, rawzk.create_body("/dying", b"", 1))[1] == 0
    gone = threading.Event()
    assert watcher.exists("/dying", watch=lambda event: event.type == "DELETED" and gone.set())
    assert gone.wait(PATIENCE)
    with pytest.raises(rawzk.Closed):
        dying.read_frame()


def test_a_client_learns_that_its_session_expired():
    from kazoo.client import KazooClient
    with Server() as server:
        zk = KazooClient(f"127.0.0.1:{server.port}", timeout=0.5)
        zk.start(timeout=PATIENCE)
        states, lost = [], threading.Event()
        zk.add_listener(lambda state: (states.append(state), state == KazooState.LOST and lost.set()) and None)
        first = zk.client_id[0]
        # An empty data directory has never heard of the session.
        server.kill9()
        server.wipe()
        server.start()
        assert lost.wait(PATIENCE)
        zk.retry(zk.create, "/again")
        assert zk.client_id[0] != first
        zk.stop()
        zk.close()


def test_everything_survives_a_restart():
    from kazoo.client import KazooClient
    with Server() as server:
        zk = KazooClient(f"127.0.0.1:{server.port}", timeout=20)
        zk.start(timeout=PATIENCE)
        zk.create("/a", b"x", acl=[security.make_acl("world", "anyone", all=True)])
        before = zk.set("/a", b"y")
        zk.create("/a/e", b"", ephemeral=True)
        zk.create("/a/s-", b"", sequence=True)
        for end in (server.stop, server.kill9):
            end()
            server.start()
            assert zk.retry(zk.get, "/a")[0] == b"y"
            after = zk.retry(zk.exists, "/a")
            assert (after.version, after.mzxid, after.mtime) == (before.version, before.mzxid, before.mtime)
            assert zk.retry(zk.exists, "/a/e").ephemeralOwner == zk.client_id[0]
        assert zk.create("/a/s-", b"", sequence=True) == "/a/s-0000000002"
        zk.stop()
        zk.close()


def test_snapshots_and_purge_keep_everything():
    from kazoo.client import KazooClient
    with Server(snapCount=200) as server:
        zk = KazooClient(f"127.0.0.1:{server.port}", timeout=20)
        zk.start(timeout=PATIENCE)
        for n in range(1200):
            zk.create(f"/n{n}", b"%d" % n)
        native = server.data / "ringkeeper-1"
        until = threading.Event()
        for _ in range(600):
            if len(list(native.glob("snap.*"))) == 3:
                break
            zk.set("/n0", b"again")
            until.wait(0.01)
        assert len(list(native.glob("snap.*"))) == 3
        server.kill9()
        server.start()
        assert len(zk.retry(zk.get_children, "/")) == 1201
        assert zk.get("/n1199")[0] == b"1199"
        zk.stop()
        zk.close()
