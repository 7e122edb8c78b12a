"""Random and worst inputs: the server lives, and another client is served between them."""

import random
import struct

from harness import PATIENCE_S, Failure, Flow, Loop, Place, alive, busy, check, client, closing, has, holds, until_answered, pinged, zk

LARGEST = (1 << 20) - 1
OPERATIONS = [-11, -10, -1, *range(0, 23), *range(100, 109), 999, -(1 << 31), (1 << 31) - 1]
WORDS = ["ruok", "srvr", "stat", "mntr", "conf", "cons", "isro", "dump", "envi", "dirs", "crst", "srst", "wchs", "wchc", "wchp", "gtmk",
         "stmk", "hash", "lead", "stgs", "none"]
SEED = 8
# Small random bodies of each operation, beside one as large as a frame.
RANDOM_EACH = 12


def vector(items):
    return struct.pack(">i", len(items)) + b"".join(items)


def fill(item, count_limit=LARGEST):
    """As many of an item as a frame takes."""
    return min(count_limit, (LARGEST - 200) // len(item))


def multi_of(op, body):
    item = struct.pack(">ibi", op, 0, -1) + body
    return item * fill(item) + struct.pack(">ibi", -1, 1, -1)


def watch_lists(lists):
    """setWatches: as many short paths as fit, all of them absent."""
    each = [zk.text("/%x" % n) for n in range(100_000 // lists)]
    return struct.pack(">q", 0) + vector(each) * lists


def worst():
    """(name, operation, body): each is the dearest that a frame can ask for."""
    deep = "/a" * ((LARGEST - 300) // 2)
    entries = [(n % 31 + 1, "ip", ".".join(f"{n // 31:04}")) for n in range(45_000)]
    digests = [(31, "digest", f"{n:x}:x") for n in range(36_000)]
    nested = struct.pack(">ibi", zk.MULTI, 0, -1)
    yield "a path of half a million segments", zk.EXISTS, zk.path_body(deep)
    yield "a create with such a path", zk.CREATE, zk.create_body(deep, b"")
    yield "a path of slashes", zk.GET, zk.path_body("/" * (LARGEST - 100))
    yield "bytes that are no UTF-8", zk.EXISTS, zk.buf(b"/" + b"\xff" * 300_000) + b"\0"
    yield "an ACL of 45,000 addresses", zk.CREATE, zk.create_body("/acl", b"", access=zk.acl(*entries))
    yield "an ACL of 36,000 digests", zk.CREATE, zk.create_body("/acl", b"", access=zk.acl(*digests))
    yield "such an ACL set", zk.SET_ACL, zk.text("/") + zk.acl(*entries) + struct.pack(">i", -1)
    yield "a multi of checks", zk.MULTI, multi_of(zk.CHECK, zk.delete_body("/"))
    yield "a multi of creates of one node", zk.MULTI, multi_of(zk.CREATE, zk.create_body("/m", b""))
    yield "a multi of sequential creates", zk.MULTI, multi_of(zk.CREATE, zk.create_body("/q", b"", 2))
    yield "a multi of ephemerals", zk.MULTI, multi_of(zk.CREATE, zk.create_body("/e", b"", 3))
    yield "multis in a multi", zk.MULTI, nested * fill(nested)
    yield "a multiRead of the root", zk.MULTI_READ, multi_of(zk.CHILDREN, zk.path_body("/"))
    yield "a multiRead of a large node", zk.MULTI_READ, multi_of(zk.GET, zk.path_body("/large"))
    yield "setWatches", zk.SET_WATCHES, watch_lists(3)
    yield "setWatches2", 105, watch_lists(5)
    yield "setWatches of a count alone", zk.SET_WATCHES, struct.pack(">qi", 0, (1 << 31) - 1)
    yield "a count of 2^31-1 ACL entries", zk.CREATE, zk.text("/c") + zk.buf(b"") + struct.pack(">i", (1 << 31) - 1)
    yield "a credential of a megabyte", zk.AUTH, zk.auth_body("digest", b"u:" + b"p" * (LARGEST - 200))
    yield "ephemerals below a long prefix", 103, zk.text(deep)
    yield "a persistent watch on a long path", 106, zk.text(deep) + struct.pack(">i", 1)
    yield "a sync of a long path", zk.SYNC, zk.text(deep)
    yield "a node of a megabyte", zk.SET, zk.set_body("/large", b"x" * (LARGEST - 200))


def bodies(chance):
    """Random bodies: bytes, lengths that lie, paths with random ends; one as large as a frame."""
    for _ in range(RANDOM_EACH):
        kind = chance.randrange(4)
        if kind == 0:
            yield chance.randbytes(chance.randrange(80))
        elif kind == 1:
            yield struct.pack(">i", chance.choice((-2, -1, 0, 1, 1 << 20, (1 << 31) - 1))) + chance.randbytes(chance.randrange(40))
        elif kind == 2:
            yield zk.text("/" + "x" * chance.randrange(4)) + chance.randbytes(chance.randrange(60))
        else:
            yield zk.text("/large") + struct.pack(">i", chance.choice((-1, 0, 2, 1 << 30))) + chance.randbytes(chance.randrange(90))
    yield chance.randbytes(LARGEST - 8)


class Tried:
    """Sends an input on a connection of its own and, meanwhile, another client's pings."""

    def __init__(self, server):
        self.server = server
        self.witness = busy(server)
        self.flow = None
        self.inputs = 0

    def input(self, name, op, body):
        """One request; its reply, or the end of its connection, must come, and pings before and after."""
        if self.flow is None or self.flow.closed:
            self.flow = busy(self.server)
        check(len(body) + 8 <= LARGEST, f"{name}: {len(body)} bytes are no frame")
        due = self.flow.frames + 1
        self.inputs += 1
        try:
            self.flow.send(zk.request(1, op, body))
            until_answered(self.server, pinged([self.witness]), [self.flow])
            Loop(self.flow, self.witness).until(lambda: has(due)(self.flow), "no reply and no end of the connection")
        except Exception as e:
            raise Failure(f"{name} (operation {op}, {len(body)} bytes): {e}; {self.server.ended() or 'the server runs'}") from e
        check(self.server.ended() is None, f"{name} (operation {op}, {len(body)} bytes): {self.server.ended()}")
        until_answered(self.server, pinged([self.witness]), [])
        # Some leave watches or answers of another kind behind.
        closing([self.flow])
        self.flow = None


@holds("inputs", plain=True)
def the_worst_input_of_each_kind_ends_nothing(place: Place):
    with place.server(maxSessionTimeout=60000) as server:
        tried = Tried(server)
        maker = client(server)
        check(maker.call(zk.CREATE, zk.create_body("/large", bytes(100_000)))[1] == 0, "a node is made")
        maker.close()
        for name, op, body in worst():
            tried.input(name, op, body[:LARGEST - 8])
        alive(server)
        return f"{tried.inputs} inputs up to jute.maxbuffer"


@holds("inputs")
def random_bodies_of_each_request_end_nothing(place: Place):
    chance = random.Random(SEED)
    with place.server() as server:
        tried = Tried(server)
        for op in OPERATIONS:
            for body in bodies(chance):
                tried.input("random bytes", op, body)
        alive(server)
        return f"{tried.inputs} inputs, seed {SEED}"


@holds("inputs")
def random_first_bytes_end_nothing(place: Place):
    """Four-letter words with anything behind them, and handshakes that are none."""
    chance = random.Random(SEED)
    with place.server() as server:
        witness = client(server)
        count = 0
        for word in WORDS:
            for tail in (b"", b"\n", chance.randbytes(7), chance.randbytes(100_000), (b"mntr" * 1000)):
                with zk.socket.create_connection(("127.0.0.1", server.port), PATIENCE_S) as sock:
                    flow = Flow(sock)
                    flow.send(word.encode() + tail)
                    Loop(flow).until(lambda: flow.closed, f"{word} with {len(tail)} bytes behind it is never closed")
                check(witness.ping()[2] == 0 and server.ended() is None, f"{word} with {len(tail)} bytes: {server.ended()}")
                count += 1
        for size in (0, 1, 7, 28, 44, 45, 46, 1000, LARGEST):
            for _ in range(5):
                with zk.socket.create_connection(("127.0.0.1", server.port), PATIENCE_S) as sock:
                    flow = Flow(sock)
                    flow.send(struct.pack(">i", size) + chance.randbytes(size))
                    # A handshake of any bytes may be one; a ping then shows that the connection is served.
                    Loop(flow).until(lambda: flow.closed or flow.frames, f"a handshake of {size} bytes is neither answered nor closed")
                check(witness.ping()[2] == 0 and server.ended() is None, f"a handshake of {size} bytes: {server.ended()}")
                count += 1
        alive(server)
        return f"{count} inputs, seed {SEED}"
