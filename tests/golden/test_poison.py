"""Requests that end Apache's server, some of them for good: each has its safe answer, executes nothing, and the server
goes on, also after a restart and a crash. Never run against Apache's server, but for what it answers safely too."""

import random
import socket
import struct

import pytest

import harness
from harness import client, is_closed, zk

apaches_end = pytest.mark.skipif(harness.IS_APACHE, reason="it ends Apache's server")


@pytest.fixture
def poisoned():
    """A server with extended types and quotas; whatever a test did, it serves before and after two starts."""
    with harness.serving(extendedTypesEnabled="true", enforceQuota="true") as running:
        before = client(running)
        assert before.call(zk.CREATE, zk.create_body("/kept", b"x"))[1] == 0
        yield running
        if not harness.IS_APACHE:
            for end in (lambda: None, running.restart, lambda: (running.kill9(), running.start())):
                end()
                witness = client(running)
                _, err, body = witness.call(zk.GET, zk.path_body("/kept"))
                assert (err, zk.read_buf(body, 0)[0]) == (0, b"x")
                assert witness.call(zk.SET, zk.set_body("/kept", b"x"))[1] == 0


def tree(raw, path="/"):
    """Every path with its data and its version."""
    _, err, body = raw.call(zk.GET, zk.path_body(path))
    assert err == 0, path
    data, at = zk.read_buf(body, 0)
    found = {path: (data, zk.stat_at(body, at)["version"])}
    names, _ = zk.read_names(raw.call(zk.CHILDREN, zk.path_body(path))[2])
    for name in names:
        found |= tree(raw, path.rstrip("/") + "/" + name)
    return found


@apaches_end
def test_a_create_ttl_without_ttl_flags(poisoned):
    """With any TTL that is no TTL: −8, one zxid, no node."""
    one = client(poisoned)
    zxid, before = one.ping()[1], tree(one)
    for flags in range(5):
        for ttl in (-1, -2, 0, 1000, -(1 << 63), (1 << 63) - 1):
            body = zk.create_body(f"/ttl{flags}", b"", flags) + struct.pack(">q", ttl)
            zxid += 1
            assert one.call(zk.CREATE_TTL, body) == (zxid, -8, b""), (flags, ttl)
    assert tree(one) == before


@apaches_end
def test_limits_of_no_path(poisoned):
    """Nodes named zookeeper_limits that belong to no path are ordinary: created, written, deleted."""
    one = client(poisoned)

    def done(op, body):
        _, err, _ = one.call(op, body)
        assert err == 0, (op, body)

    done(zk.CREATE, zk.create_body("/zookeeper/quota/zookeeper_limits", b"count=0,bytes=0=;byteHardLimit=0;countHardLimit=0"))
    done(zk.CREATE, zk.create_body("/zookeeper/quota/zookeeper_stats", b"rubbish"))
    done(zk.CREATE, zk.create_body("/any", b"data"))
    counted = tree(one)["/zookeeper/quota/zookeeper_stats"]
    done(zk.CREATE, zk.create_body("/other", b"data"))
    assert tree(one)["/zookeeper/quota/zookeeper_stats"] == counted, "nothing is added there"
    for parent in ("/zookeeper/other", "/zookeeper/quotaX"):
        done(zk.CREATE, zk.create_body(parent, b""))
        done(zk.CREATE, zk.create_body(parent + "/zookeeper_limits", b"count=0"))
        done(zk.DELETE, zk.delete_body(parent + "/zookeeper_limits"))
    done(zk.CREATE, zk.create_body("/zookeeper/other/zookeeper_limits", b""))
    done(zk.MULTI, zk.multi_body([(zk.DELETE, zk.delete_body("/zookeeper/other/zookeeper_limits")),
                                  (zk.DELETE, zk.delete_body("/zookeeper/other"))]))
    assert "/zookeeper/other" not in tree(one)
    for name in ("limits", "stats"):
        done(zk.DELETE, zk.delete_body("/zookeeper/quota/zookeeper_" + name))
    done(zk.CREATE, zk.create_body("/more", b"data"))


@apaches_end
def test_totals_that_nobody_can_read_are_counted_again(poisoned):
    one = client(poisoned)

    def done(op, body):
        _, err, _ = one.call(op, body)
        assert err == 0, (op, body)

    done(zk.CREATE, zk.create_body("/p", b"12"))
    done(zk.CREATE, zk.create_body("/zookeeper/quota/p", b""))
    done(zk.CREATE, zk.create_body("/zookeeper/quota/p/zookeeper_limits", b"count=-1,bytes=-1"))
    stats = "/zookeeper/quota/p/zookeeper_stats"
    done(zk.CREATE, zk.create_body(stats, b"count=77,bytes=77"))
    assert tree(one)[stats] == (b"count=1,bytes=2", 0), "the totals as they are"
    for n, rubbish in enumerate((b"\xff\xfe", None, b"count=", b"count=99999999999999999999", b"=" * 5000, b"count=x,bytes=1"), 1):
        done(zk.SET, zk.set_body(stats, rubbish))
        done(zk.CREATE, zk.create_body(f"/p/{n}", b"345"))
        data, version = tree(one)[stats]
        assert (data.split(b"=;")[0], version) == (b"count=%d,bytes=%d" % (1 + n, 2 + 3 * n), n), rubbish
    # Limits that nobody can read limit nothing.
    done(zk.SET, zk.set_body("/zookeeper/quota/p/zookeeper_limits", b"rubbish"))
    done(zk.CREATE, zk.create_body("/p/last", b""))
    done(zk.DELETE, zk.delete_body("/p/last"))


@apaches_end
def test_operations_of_servers_from_a_client(poisoned):
    """deleteContainer and createSession are unknown, answered and closed: nothing is deleted, no session is made."""
    maker = client(poisoned)
    closed = zk.acl((0, "world", "anyone"))
    assert maker.call(zk.CREATE_CONTAINER, zk.create_body("/container", b"", 4, closed))[1] == 0
    assert maker.call(zk.CREATE, zk.create_body("/plain", b""))[1] == 0
    for op, body in ((zk.DELETE_CONTAINER, zk.buf(b"/container")), (zk.DELETE_CONTAINER, zk.buf(b"/plain")), (zk.DELETE_CONTAINER, b""),
                     (-10, struct.pack(">i", 60000)), (-10, b""), (-1, b""), (0, b""), (10, b""), (23, b""), (99, b""), (108, b""),
                     (-(1 << 31), b""), ((1 << 31) - 1, b"")):
        one = client(poisoned)
        xid = one.ask(op, body)
        assert one.reply() == (xid, -1, -6, b""), op
        assert is_closed(one)
    for path in ("/container", "/plain"):
        assert maker.call(104, zk.text(path))[1] in (0, -102), path
    # Inside of a multi it is malformed.
    assert maker.call(zk.MULTI, zk.multi_body([(zk.DELETE_CONTAINER, zk.buf(b"/plain"))]))[1:] == (-5, b"")


def test_lengths_near_two_to_the_31(poisoned):
    """A small frame that announces a huge string, buffer or list: −5, and no memory for it."""
    one = client(poisoned)
    most, memory = (1 << 31) - 1, None if harness.IS_APACHE else poisoned.memory()
    for size in (most, most - 1, most - 4, 1 << 30, 1 << 24, 3_000_000, -2, -(1 << 31)):
        n = struct.pack(">i", size)
        requests = [
            (zk.GET, n + b"/a\0"), (zk.EXISTS, n), (zk.CREATE, n + b"/a"), (zk.CREATE, zk.text("/a") + n + b"x"), (zk.SET, zk.text("/a") + n),
            (zk.DELETE, n + b"/a"), (zk.SYNC, n), (zk.SET_ACL, zk.text("/a") + struct.pack(">ii", 1, 31) + n), (zk.ADD_WATCH, n),
            (zk.MULTI, struct.pack(">ibi", zk.SET, 0, -1) + zk.text("/a") + n),
        ]
        if size > 0:
            requests += [(zk.CREATE, zk.text("/a") + zk.buf(b"") + n + b"\0\0\0\x1f"), (zk.SET_ACL, zk.text("/a") + n),
                         (zk.SET_WATCHES, bytes(8) + n), (zk.SET_WATCHES2, bytes(8) + bytes(16) + n)]
        for op, body in requests:
            _, err, rest = one.call(op, body)
            assert (err, rest) == (-5, b""), (op, size)
    assert one.call(zk.EXISTS, zk.path_body("/a"))[1] == -101
    if memory:
        assert poisoned.memory() - memory < 64 << 20
    for size in (most, -2, 1 << 30):
        # In the handshake.
        other = zk.Raw(poisoned.port, timeout=harness.PATIENCE_S)
        other.send_frame(struct.pack(">iqiqi", 0, 0, 10000, 0, size) + b"x")
        assert is_closed(other)


@apaches_end
def test_announced_megabytes_and_half_handshakes_take_nothing(poisoned):
    """Hundreds of each: no memory because of an announced length, and others are served meanwhile."""
    before = poisoned.memory()
    half = [socket.create_connection(("127.0.0.1", poisoned.port), harness.PATIENCE_S) for _ in range(300)]
    said = [b"", b"\0", struct.pack(">i", 1_048_575), struct.pack(">i", 45) + bytes(20)]
    for n, sock in enumerate(half):
        sock.sendall(said[n % len(said)])
    sessions = [client(poisoned) for _ in range(50)]
    for one in sessions:
        one.sock.sendall(struct.pack(">i", 1_048_575) + b"x")
    witness = client(poisoned)
    assert witness.call(zk.SET, zk.set_body("/kept", b"x"))[1] == 0
    assert poisoned.memory() - before < 64 << 20
    # That the silent ones are cut takes longer: tests/kazoo/test_bounds.py.
    for one in (*half, *sessions):
        one.close()


@apaches_end
def test_long_lists_long_paths_and_many_children(poisoned):
    """Limited by the frame and by docs/protocol.md §10 alone; nobody else waits for them."""
    one, witness = client(poisoned), client(poisoned)
    entries = [(31, "ip", f"10.{n >> 8 & 255}.{n & 255}.1") for n in range(4096)]
    assert one.call(zk.CREATE, zk.create_body("/acl", b"", access=zk.acl(*entries)))[1] == 0
    assert one.call(zk.SET_ACL, zk.text("/acl") + zk.acl(*entries, (1, "ip", "9.9.9.9")) + struct.pack(">i", -1))[1] == -114
    deep = "/x" * 524_000
    assert one.call(zk.EXISTS, zk.path_body(deep))[1] == -101
    assert one.call(zk.CREATE, zk.create_body(deep[:1_000_000], b""))[1] == -101
    long = "/" + "n" * 1_000_000
    assert one.call(zk.CREATE, zk.create_body(long, b""))[1] == 0
    assert witness.ping()[2] == 0
    assert one.call(zk.DELETE, zk.delete_body(long))[1] == 0
    assert one.call(zk.CREATE, zk.create_body("/many", b""))[1] == 0
    for _ in range(20):
        ops = [(zk.CREATE, zk.create_body("/many/n-", b"", flags=2))] * 1000
        _, err, body = one.call(zk.MULTI, zk.multi_body(ops))
        assert err == 0 and struct.unpack_from(">ibi", body) == (1, 0, 0)
    assert witness.ping()[2] == 0
    assert one.call(104, zk.text("/many"))[2] == struct.pack(">i", 20_000)


def test_random_frames_end_at_most_their_own_connection(poisoned):
    """Seeded; tests/hostile and tests/fuzz have many more."""
    rng, witness = random.Random(13), client(poisoned)
    ops = [op for op in range(-12, 110)] if not harness.IS_APACHE else [1, 3, 4, 5, 8, 9, 12, 14, 101]
    one, tried = client(poisoned), 0
    for _ in range(400):
        op, body = rng.choice(ops), bytes(rng.choice([0, 0, 0, 1, 2, 47, 255, rng.randrange(256)]) for _ in range(rng.randrange(40)))
        try:
            one.ask(op, body, xid=tried + 1)
            while one.reply()[0] == -1:
                pass
        except (zk.Closed, OSError):
            one = client(poisoned)
        tried += 1
        if tried % 20 == 0:
            assert witness.ping()[2] == 0
    one.close()
