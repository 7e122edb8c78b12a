"""What the tests of this section stand on: registration, placements, counts that replace clocks.

No test compares a time. What a test compares is how much one client got between two answers to
another: the clients' own answers are the clock, or the server's system calls (tracing.py) where a client's
program would have to be scheduled in time. Times are printed where they help to see what happened."""

import contextlib
import dataclasses
import pathlib
import selectors
import socket
import struct
import sys
import time
import typing

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent.parent / "lib")]

import rawzk as zk  # noqa: E402
from server import Server  # noqa: E402

# A guard against hanging, in seconds; nothing that passes comes near it.
PATIENCE_S = 20
SEND_BUFFER = 2 << 20
MEGABYTE = 1_000_000
# Bytes of the reply to a ping, or to a request that fails.
HEADER_REPLY = 20
PING = zk.request(-2, zk.PING)


class Failure(Exception):
    """A promise that the server did not keep; the text says which."""


def check(condition, why):
    if not condition:
        raise Failure(why)


@dataclasses.dataclass
class Test:
    """One test and what it holds."""
    run: typing.Callable
    findings: tuple
    close: bool
    plain: bool

    @property
    def name(self):
        return self.run.__name__


TESTS = []


def holds(*findings, close=False, plain=False):
    """Registers a test.

    `close`: only in the long mode. `plain`: once more with every newer feature of the kernel off."""
    def register(function):
        TESTS.append(Test(function, findings, close, plain))
        return function
    return register


@dataclasses.dataclass
class Place:
    """Where the server's parts run, and how."""
    shards: int
    plain: bool = False

    @property
    def name(self):
        return ("inline" if self.shards == 0 else f"{self.shards} shards") + (", plain ring" if self.plain else "")

    def server(self, properties=None, **options):
        plain = {"ringkeeper.ring": "plain"} if self.plain else {}
        return Server(properties={**plain, **(properties or {})}, **{"shards": self.shards, **options})


def client(server, timeout=30000, **how):
    """A client with a session of its own."""
    options = {name: how.pop(name) for name in ("source", "receive_buffer") if name in how}
    raw = zk.Raw(server.port, timeout=PATIENCE_S, **options)
    raw.connect(timeout=timeout, **how)
    return raw


def end(raw):
    """Closes the session, then the connection."""
    raw.call(zk.CLOSE)
    raw.close()


def alive(server, who="a client that did nothing wrong"):
    """The process runs, and somebody new is served: a read and a write."""
    check(server.ended() is None, server.ended())
    try:
        good = client(server)
        for op, body in ((zk.GET, zk.path_body("/")), (zk.DELETE, zk.delete_body("/never-there"))):
            good.call(op, body)
        end(good)
    except (OSError, zk.Closed) as e:
        raise Failure(f"{who} is not served afterwards: {e!r}; {server.ended() or 'the server runs'}") from e


def wait_until(condition, why):
    """Waits for what must come; `why` is what is said if it does not, or a function that says it."""
    until = time.monotonic() + PATIENCE_S
    while not condition():
        check(time.monotonic() < until, why() if callable(why) else why)
        time.sleep(0.02)


def disk_is_measured(server):
    """Behind a start the disk is measured in the background, which takes system calls, a file and a thread."""
    wait_until(lambda: "durability " in server.log.read_text(), "the disk is not measured")


def median(values):
    return sorted(values)[len(values) // 2]


def make_big(server, count=1, size=900_000):
    """Nodes `/big0`, `/big1` …, each full of its own number."""
    maker = client(server)
    for n in range(count):
        check(maker.call(zk.CREATE, zk.create_body(f"/big{n}", bytes([n]) * size))[1] == 0, "a big node is made")
    end(maker)


class Flow:
    """A socket that sends without waiting and counts the bytes and frames that come back."""

    def __init__(self, sock):
        self.sock = sock
        # A burst is to fit into the kernel while the server stands still; the kernel cuts this to its limit.
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self.sock.setblocking(False)
        self.output = memoryview(b"")
        self.received = 0
        self.frames = 0
        self.closed = False
        self.part = b""

    def send(self, data):
        self.output = memoryview(bytes(self.output) + data)
        self.write()

    def write(self):
        with contextlib.suppress(BlockingIOError):
            while self.output:
                try:
                    self.output = self.output[self.sock.send(self.output):]
                except (ConnectionResetError, BrokenPipeError):
                    self.closed, self.output = True, memoryview(b"")

    def read(self):
        """Takes all that has come."""
        with contextlib.suppress(BlockingIOError):
            while True:
                try:
                    more = self.sock.recv(1 << 20)
                except ConnectionResetError:
                    more = b""
                if not more:
                    self.closed = True
                    return
                self.received += len(more)
                self.count_frames(more)

    def count_frames(self, more):
        data, at = self.part + more if self.part else more, 0
        while len(data) - at >= 4:
            size = 4 + struct.unpack_from(">i", data, at)[0]
            if len(data) - at < size:
                break
            at += size
            self.frames += 1
        self.part = data[at:]


class Loop:
    """Moves the bytes of several flows until something is true."""

    def __init__(self, *flows):
        self.selector = selectors.DefaultSelector()
        self.flows = flows
        for flow in flows:
            self.selector.register(flow.sock, self.interest(flow), flow)

    @staticmethod
    def interest(flow):
        return selectors.EVENT_READ | (selectors.EVENT_WRITE if flow.output else 0)

    def step(self, timeout):
        """One look at the sockets, in the order in which the flows were named."""
        for flow in self.flows:
            if flow.sock in self.selector.get_map() and self.selector.get_key(flow.sock).events != self.interest(flow):
                self.selector.modify(flow.sock, self.interest(flow), flow)
        ready = {key.data: events for key, events in self.selector.select(timeout)}
        for flow in self.flows:
            events = ready.get(flow, 0)
            if events & selectors.EVENT_WRITE:
                flow.write()
            if events & selectors.EVENT_READ:
                flow.read()
            if flow.closed and flow.sock in self.selector.get_map():
                self.selector.unregister(flow.sock)

    def until(self, condition, why):
        guard = time.monotonic() + PATIENCE_S
        while not condition():
            left = guard - time.monotonic()
            check(left > 0, why() if callable(why) else why)
            self.step(min(left, 1))


def busy(server):
    """A flow with a session of its own."""
    return Flow(client(server).sock)


@contextlib.contextmanager
def standing_still(server):
    """What clients send meanwhile, the server finds all at once."""
    server.pause()
    try:
        yield
    finally:
        server.resume()


def pinged(witnesses):
    """Sends a ping on each flow; the frames that each has when it is answered."""
    for flow in witnesses:
        flow.send(PING)
    return {flow: flow.frames + 1 for flow in witnesses}


def until_answered(server, due, crowd):
    """Waits until the flows in `due` have so many frames; `crowd` reads meanwhile."""
    def answered():
        check(not any(flow.closed for flow in due), f"the connection of one who pings was closed; {server.ended() or ''}")
        return all(flow.frames >= frames for flow, frames in due.items())

    Loop(*due, *crowd).until(answered, "one who pings is not served at all")


def finish(server, flows, done, why="the burst is never answered"):
    """Waits until `done` says so of each flow."""
    Loop(*flows).until(lambda: all(map(done, flows)), why)
    check(server.ended() is None, server.ended())


def has(frames):
    """Whether a flow has got so many frames, or was closed."""
    return lambda flow: flow.frames >= frames or flow.closed


def closing(flows):
    """Closes sockets, however they are."""
    for flow in flows:
        with contextlib.suppress(OSError):
            flow.sock.close()
