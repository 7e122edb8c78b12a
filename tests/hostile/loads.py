"""Long runs at the size of a bad day, `--close` only: what others see meanwhile, in milliseconds, and the memory."""

import collections
import contextlib
import multiprocessing
import pathlib
import resource
import selectors
import socket
import struct
import tempfile
import threading
import time

from hang import Hanging
from harness import MEGABYTE, PING, Flow, Place, alive, check, client, closing, holds, make_big, zk

# What the process may hold for requests and outputs of all clients, with the tree and the code, bytes: the
# sum of the rows of ARCHITECTURE.md's table of bounds.
MEMORY_BOUND = 1 << 30
OTHERS = 20
PING_EVERY_S = 0.02
OTHERS_TIMEOUT_MS = 15_000
# Others' pings with shards, ms.
P99_MS = 100
HANG_S = 10
# A crowd whose sessions last three times as long pings so often.
CROWD_PINGS_S = 10
# Ephemeral ports of one address are fewer than the connections: several addresses.
ADDRESSES = 8
TCP_MEMORY = pathlib.Path("/proc/sys/net/ipv4/tcp_mem")
# What a test has dialled; closed when it ends, however it ends.
DIALLED = []


def watch(port, results, going):
    """Others: pings on a schedule; (when it was due, how long until its answer) of each."""
    raws = [zk.Raw(port, timeout=60) for _ in range(OTHERS)]
    for raw in raws:
        raw.connect(timeout=OTHERS_TIMEOUT_MS)
    seen, due = [], time.monotonic()
    waiting = {}
    selector = selectors.DefaultSelector()
    for raw in raws:
        selector.register(raw.sock, selectors.EVENT_READ, raw)
    results.put("ready")
    turn = 0
    while going.value:
        now = time.monotonic()
        while due <= now:
            raw = raws[turn % OTHERS]
            # One that still waits is not asked again: its own wait counts.
            if raw not in waiting:
                waiting[raw] = due
                raw.ask(zk.PING, xid=-2)
            turn, due = turn + 1, due + PING_EVERY_S / OTHERS * 10
        for key, _ in selector.select(max(0, due - time.monotonic())):
            try:
                key.data.reply()
            except (zk.Closed, OSError):
                results.put("a connection of those who only ping was closed")
                return
            seen.append((waiting.get(key.data, now), time.monotonic() - waiting.pop(key.data, now)))
    seen += [(since, time.monotonic() - since) for since in waiting.values()]
    results.put(seen)


class Others:
    """A process whose sessions only ping, and the memory of the server meanwhile."""

    def __init__(self, server):
        self.server = server
        context = multiprocessing.get_context("fork")
        self.results = context.Queue()
        self.going = context.RawValue("i", 1)
        self.process = context.Process(target=watch, args=(server.port, self.results, self.going), daemon=True)
        self.most = 0
        self.sampling = True
        self.sampler = threading.Thread(target=self.sample, daemon=True)

    def sample(self):
        while self.sampling:
            with contextlib.suppress(OSError, KeyError):
                self.most = max(self.most, self.server.memory("VmRSS"))
            time.sleep(0.05)

    def __enter__(self):
        self.process.start()
        check(self.results.get(timeout=60) == "ready", "those who ping are not connected")
        self.sampler.start()
        return self

    def __exit__(self, *_):
        self.sampling = False
        self.going.value = 0
        self.sampler.join()
        self.process.join(1)
        self.process.kill()

    def said(self, place, stops_allowed=0, crowd_may_expire=False):
        """Figures; fails where the promise is broken. A stop: pings above the limit, one after another."""
        self.going.value = 0
        seen = self.results.get(timeout=60)
        check(not isinstance(seen, str), seen)
        took = sorted(wait for _, wait in seen)
        p50, p99, most = (took[min(len(took) - 1, int(len(took) * q))] * 1000 for q in (0.5, 0.99, 1))
        stops, last = 0, 0
        for since, wait in sorted(seen):
            if wait * 1000 > P99_MS and since > last:
                stops += 1
                last = since + wait
        check(self.server.ended() is None, self.server.ended())
        expired = self.server.figures()["stale_sessions_expired"]
        text = (f"others' pings p50 {p50:.1f} ms, p99 {p99:.1f} ms, most {most:.0f} ms, {stops} stops; memory at most "
                f"{self.most >> 20} MiB; {expired} sessions expired")
        check(expired == 0 or crowd_may_expire, f"sessions expired: {text}")
        check(self.most <= MEMORY_BOUND, f"memory above {MEMORY_BOUND >> 20} MiB: {text}")
        check(p99 <= P99_MS or not place.shards and stops <= stops_allowed, f"others' p99 above {P99_MS} ms: {text}")
        return text


@contextlib.contextmanager
def many_files(needed=12_000):
    """This process's own limit of open files, and the server's: as many as the machine lets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    check(hard >= needed, f"{needed} open files are needed, the hard limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    DIALLED.clear()
    try:
        yield
    finally:
        for sock in DIALLED:
            sock.close()
        DIALLED.clear()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def memory_for_both_ends():
    """The kernel's memory for TCP, which here holds what both ends have not read: three times as much as usual. Short
    of it, the kernel drops segments, and who has to send them again is silent for longer than a session lasts."""
    usual = TCP_MEMORY.read_text()
    TCP_MEMORY.write_text(" ".join(str(3 * int(pages)) for pages in usual.split()))
    try:
        yield
    finally:
        TCP_MEMORY.write_text(usual)


def dial(port, n, receive_buffer=None, send_buffer=None):
    sock = socket.socket()
    DIALLED.append(sock)
    for option, value in ((socket.SO_RCVBUF, receive_buffer), (socket.SO_SNDBUF, send_buffer)):
        if value:
            sock.setsockopt(socket.SOL_SOCKET, option, value)
    sock.bind((f"127.0.2.{n % ADDRESSES + 1}", 0))
    sock.connect(("127.0.0.1", port))
    return sock


def sessions(port, count, timeout_ms, **how):
    """Many sessions, opened a thousand at a time."""
    hello = zk.Raw.connect_payload(timeout=timeout_ms)
    socks = []
    for first in range(0, count, 1000):
        part = [dial(port, n, **how) for n in range(first, min(count, first + 1000))]
        for sock in part:
            sock.sendall(struct.pack(">i", len(hello)) + hello)
        for sock in part:
            sock.settimeout(60)
            answer = b""
            while len(answer) < 41:
                more = sock.recv(41 - len(answer))
                check(more, f"a handshake was not answered after {len(socks)} sessions")
                answer += more
            sock.setblocking(False)
        socks += part
    return socks


class Crowd:
    """Many connections that each send the same bytes as the server takes them, and then, as a client does, a ping
    now and then; counts replies and ends."""

    def __init__(self, socks, frame, reply_bytes):
        self.frame = memoryview(frame)
        self.sent = dict.fromkeys(socks, 0)
        self.got = dict.fromkeys(socks, 0)
        self.reply_bytes, self.answered, self.cut = reply_bytes, 0, 0
        # Who has sent all of its bytes, in the order in which the next ping of each is due, and when.
        self.pings = collections.deque()
        self.selector = selectors.DefaultSelector()
        for sock in socks:
            self.selector.register(sock, selectors.EVENT_READ | selectors.EVENT_WRITE)

    def ping(self):
        while self.pings and self.pings[0][0] <= time.monotonic():
            sock = self.pings.popleft()[1]
            if sock.fileno() in self.selector.get_map():
                with contextlib.suppress(OSError):
                    sock.send(PING)
                self.pings.append((time.monotonic() + CROWD_PINGS_S, sock))

    def step(self):
        self.ping()
        for key, events in self.selector.select(0.05):
            sock = key.fileobj
            try:
                if events & selectors.EVENT_WRITE:
                    self.sent[sock] += sock.send(self.frame[self.sent[sock]:])
                    if self.sent[sock] == len(self.frame):
                        self.selector.modify(sock, selectors.EVENT_READ)
                        self.pings.append((time.monotonic() + CROWD_PINGS_S, sock))
                if events & selectors.EVENT_READ:
                    more = sock.recv(65536)
                    if not more:
                        raise ConnectionResetError
                    was_answered = self.got[sock] >= self.reply_bytes
                    self.got[sock] += len(more)
                    self.answered += self.got[sock] >= self.reply_bytes and not was_answered
            except BlockingIOError:
                continue
            except OSError:
                self.cut += 1
                self.selector.unregister(sock)


@holds("11", close=True)
def ten_thousand_large_writes_while_the_disk_hangs(place: Place):
    connections, after_s = 10_000, 40
    with (many_files(), memory_for_both_ends(), tempfile.TemporaryDirectory(prefix="ringkeeper-hang-") as root,
          Hanging(root, 14 << 30) as disk):
        # The device ends before the server: nobody waits for gigabytes to be written.
        with place.server(parent=disk.directory, tickTime=2000, preAllocSize=65536) as server, contextlib.closing(disk):
            maker = client(server)
            check(maker.call(zk.CREATE, zk.create_body("/w", b""))[1] == 0, "a node is made")
            maker.call(zk.CLOSE)
            socks = sessions(server.port, connections, 30_000, send_buffer=16 << 10)
            frame = zk.request(1, zk.SET, zk.set_body("/w", bytes(MEGABYTE)))
            crowd = Crowd(socks, frame, 20 + zk.STAT.size)
            with Others(server) as others:
                disk.still()
                began = time.monotonic()
                while time.monotonic() < began + HANG_S:
                    crowd.step()
                taken = sum(crowd.sent.values())
                disk.go_on()
                while time.monotonic() < began + HANG_S + after_s and crowd.answered + crowd.cut < connections:
                    crowd.step()
                text = others.said(place, stops_allowed=1)
            check(crowd.cut == 0, f"{crowd.cut} of {connections} connections were cut; {text}")
            return f"{taken >> 20} MiB taken while it hung, {crowd.answered} of {connections} answered {after_s} s later; {text}"


@holds("11", close=True)
def two_thousand_slow_readers_of_large_nodes(place: Place):
    readers, seconds = 2_000, 20
    with many_files(), place.server(tickTime=2000, preAllocSize=65536) as server:
        make_big(server, 4, size=MEGABYTE)
        socks = sessions(server.port, readers, 30_000, receive_buffer=32 << 10)
        frame = b"".join(zk.request(n + 1, zk.GET, zk.path_body(f"/big{n % 4}")) for n in range(8))
        with Others(server) as others:
            for sock in socks:
                sock.send(frame)
            got, ended, until = 0, set(), time.monotonic() + seconds
            while time.monotonic() < until:
                # 16 KiB a second each.
                for sock in socks:
                    if sock not in ended:
                        try:
                            more = sock.recv(16 << 10)
                            ended |= {sock} if not more else set()
                            got += len(more)
                        except BlockingIOError:
                            continue
                        except OSError:
                            ended.add(sock)
                time.sleep(0.8)
            text = others.said(place)
        alive(server)
        return f"{got >> 20} MiB read, {len(ended)} of {readers} slow readers were cut; {text}"


@holds("20", close=True)
def ten_thousand_connects_in_one_second(place: Place):
    connections = 10_000
    with many_files(), place.server(tickTime=2000) as server:
        hello = zk.Raw.connect_payload(timeout=30_000)
        hello = struct.pack(">i", len(hello)) + hello
        with Others(server) as others:
            began, socks = time.monotonic(), []
            for n in range(connections):
                sock = dial(server.port, n)
                sock.setblocking(False)
                sock.send(hello)
                socks.append(sock)
            dialled = time.monotonic() - began
            waiting, refused = len(socks), 0
            selector = selectors.DefaultSelector()
            for sock in socks:
                selector.register(sock, selectors.EVENT_READ)
            while waiting and time.monotonic() < began + 30:
                for key, _ in selector.select(1):
                    try:
                        refused += not key.fileobj.recv(100)
                    except OSError:
                        refused += 1
                    selector.unregister(key.fileobj)
                    waiting -= 1
            served = time.monotonic() - began
            text = others.said(place)
        check(not waiting and not refused, f"{waiting} handshakes were not answered, {refused} refused; {text}")
        alive(server)
        return f"dialled in {dialled:.1f} s, all sessions open after {served:.1f} s; {text}"


@holds("8", close=True)
def the_limit_of_open_files_halved(place: Place):
    """More connections come than half of the usual limit allows, a part of them reads slowly, and one writes."""
    limit, connections, writes = 512, 900, 200
    with many_files(), place.server(open_files=limit, tickTime=2000, preAllocSize=8192) as server:
        make_big(server, size=MEGABYTE)
        writer = client(server)
        check(writer.call(zk.CREATE, zk.create_body("/w", b""))[1] == 0, "a node is made")
        with Others(server) as others:
            open_, refused, flows = 0, 0, []
            for n in range(writes):
                for _ in range(connections // writes + 1):
                    try:
                        raw = zk.Raw(server.port, timeout=20, receive_buffer=32 << 10, source=f"127.0.3.{n % 200 + 1}")
                        raw.connect(timeout=30_000)
                        for _ in range(6):
                            raw.ask(zk.GET, zk.path_body("/big0"))
                        flows.append(Flow(raw.sock))
                        open_ += 1
                    except (zk.Closed, OSError):
                        refused += 1
                try:
                    err = writer.call(zk.SET, zk.set_body("/w", bytes(500_000)))[1]
                except (zk.Closed, OSError) as e:
                    err = repr(e)
                check(err == 0, f"write {n} with {open_} slow readers: {err}; {server.ended() or 'the server runs'}")
            # At the limit nobody is let in, nor is who asks for figures.
            closing(flows)
            alive(server)
            text = others.said(place, crowd_may_expire=True)
        check(refused, "nobody was refused: the limit was not reached")
        return f"{open_} slow readers, {refused} refused, {writes} writes; {text}"
