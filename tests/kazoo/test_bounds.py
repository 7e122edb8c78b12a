"""What a client can't do to the server: hold memory, descriptors or connections without bound."""

import os
import socket
import struct
import threading
import time

import pytest
import rawzk as zk
from server import Server, four_letter

PATIENCE = 60
BIG = 900_000


def wait_until(condition, what):
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.05)


def figures(server):
    lines = four_letter(server.port, "mntr").splitlines()
    return dict(line.split("\t") for line in lines)


def rss(server):
    with open(f"/proc/{server.process.pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) << 10


def descriptors(server):
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


@pytest.fixture
def own():
    with Server() as running:
        yield running


@pytest.fixture
def big(own):
    """Four big nodes, each full of its own number."""
    writer = zk.Raw(own.port)
    writer.connect()
    for n in range(4):
        assert writer.call(zk.CREATE, zk.create_body(f"/big{n}", bytes([n]) * BIG))[1] == 0
    writer.close()
    return own


def slow(server, timeout):
    """A client with a small receive buffer."""
    client = zk.Raw.__new__(zk.Raw)
    client.sock = socket.socket()
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 << 10)
    client.sock.settimeout(PATIENCE)
    client.sock.connect(("127.0.0.1", server.port))
    client.input, client.xid = b"", 0
    client.connect(timeout=timeout)
    return client


def test_a_slow_reader_gets_every_byte_in_order_within_a_bound(big):
    client = slow(big, 30000)
    before = rss(big)
    frames = b"".join(
        struct.pack(">i", len(body)) + body
        for body in (struct.pack(">ii", xid, zk.GET) + zk.text(f"/big{xid % 4}") + b"\0" for xid in range(1, 61)))
    client.sock.sendall(frames)
    most = 0
    for xid in range(1, 61):
        got, _, err, body = client.reply()
        assert (got, err) == (xid, 0)
        data, _ = zk.read_buf(body, 0)
        assert data == bytes([xid % 4]) * BIG, f"foreign bytes in reply {xid}"
        most = max(most, rss(big) - before)
    # The bound of the output is 4 MiB and one reply; what the kernel takes is not ours.
    assert most < 32 << 20, f"{most >> 20} MiB for one connection"


def test_who_never_reads_is_closed_when_the_session_is_gone(big):
    clients = [slow(big, 500) for _ in range(3)]
    for client in clients:
        for n in range(12):
            client.ask(zk.GET, zk.text(f"/big{n % 4}") + b"\0")
    wait_until(lambda: "Connections: 1\n" in four_letter(big.port, "srvr"), "connections outlive their sessions")


def test_half_closed_connections_leave_nothing(big):
    wait_until(lambda: figures(big)["zk_num_alive_connections"] == "1", "the first ones are gone")
    before = descriptors(big)
    for _ in range(5):
        client = slow(big, 30000)
        for n in range(12):
            client.ask(zk.GET, zk.text(f"/big{n % 4}") + b"\0")
        client.sock.shutdown(socket.SHUT_WR)
        client.keep = client.sock
    wait_until(lambda: figures(big)["zk_num_alive_connections"] == "1", "half-closed connections stay")
    wait_until(lambda: descriptors(big) <= before, "descriptors stay")


def test_silence_before_the_first_frame_ends(own):
    quiet = [socket.create_connection(("127.0.0.1", own.port)) for _ in range(4)]
    for sock, said in zip(quiet, (b"", b"\0", b"\0\0", b"con")):
        sock.sendall(said)
        sock.settimeout(PATIENCE)
    for sock in quiet:
        assert sock.recv(1) == b""


def test_descriptors_are_kept_for_the_log(monkeypatch):
    import resource
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Server() as server:
        server.stop()
        # The server's own limit: it inherits the soft and the hard one.
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, limits[1]))
        try:
            import subprocess
            original = subprocess.Popen
            monkeypatch.setattr(subprocess, "Popen", lambda args, **how: original(
                ["prlimit", "--nofile=200:200", *args], **how))
            server.start()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        writer = zk.Raw(server.port)
        writer.connect(timeout=30000)
        idle = []
        for _ in range(300):
            try:
                idle.append(socket.create_connection(("127.0.0.1", server.port), 5))
            except OSError:
                break
        for n in range(40):
            assert writer.call(zk.CREATE, zk.create_body(f"/n{n}", bytes(500_000)))[1] == 0
        assert server.process.poll() is None


def test_resets_before_accept_hold_up_nobody(own):
    for _ in range(200):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.connect(("127.0.0.1", own.port))
        sock.close()
    began = time.monotonic()
    assert four_letter(own.port, "ruok") == "imok"
    # 200 pauses of 50 ms would be 10 s.
    assert time.monotonic() - began < 5


def test_restarts_without_writes_leave_no_segments(own):
    for _ in range(4):
        own.restart()
        own.kill9()
        own.start()
    segments = list((own.data / "ringkeeper-1").glob("log.*"))
    assert len(segments) == 1, segments


def test_sessions_have_their_whole_timeout_after_a_stop(own):
    """However long the server was away, a client may come back within its timeout."""
    client = zk.Raw(own.port)
    client.connect(timeout=3000)
    assert client.call(zk.CREATE, zk.create_body("/e", b"", 1))[1] == 0
    own.kill9()
    client.close()
    gone = threading.Event()
    gone.wait(3.5)
    own.start()
    back = zk.Raw(own.port)
    back.connect(timeout=3000, session=client.session, password=client.password)
    assert back.session == client.session
