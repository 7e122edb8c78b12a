"""Which server the golden tests run against, and connections on which every byte is typed."""

import os
import pathlib
import struct
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "lib"))

import rawzk as zk  # noqa: E402
from server import Server  # noqa: E402

# `apache`: Apache's server, as tests/differential fetches and starts it. What these tests say was seen there.
IS_APACHE = os.environ.get("RK_GOLDEN_SERVER") == "apache"
# Seconds that a server may take for anything.
PATIENCE_S = 30
# The identity that may do everything: auth(digest, super:secret).
SUPER, SUPER_DIGEST = b"super:secret", "super:lK75jTNcA+U9vtVEw5vB51mj/w4="
COMMON = {"tickTime": 500, "minSessionTimeout": 500, "maxSessionTimeout": 60000, "maxClientCnxns": 0,
          "4lw.commands.whitelist": "*"}


def serving(**options):
    """A server with these lines in its zoo.cfg; a context that starts and ends it. What Apache reads from the JVM alone
    is a property."""
    properties = {name: options.pop(name) for name in list(options) if name.startswith("znode.")}
    properties["zookeeper.DigestAuthenticationProvider.superDigest"] = SUPER_DIGEST
    options = {**COMMON, **options}
    if not IS_APACHE:
        return Server(properties=properties, **options)
    sys.path.append(str(HERE.parent / "differential"))
    from servers import Apache, fetched
    fetched()
    one = Apache("default")
    one.options.update(options)
    one.properties.update(properties)
    return one


def zxid(number):
    return struct.pack(">q", number)


class Line:
    """A connection: what it says and hears is typed in hexadecimal.

    `<name>` stands for bytes that are known, `<name:4>` for four bytes that are kept under that name, `<4>` for any four."""

    def __init__(self, server):
        self.raw = zk.Raw(server.port, timeout=PATIENCE_S)

    def say(self, text, **known):
        self.raw.sock.sendall(b"".join(known[part[1:-1]] if part.startswith("<") else bytes.fromhex(part) for part in text.split()))

    def hear(self, text, **known):
        """The next bytes are these; gives the ones that are kept."""
        parts = [self.part(part, known) for part in text.split()]
        heard = self.read(sum(size for _, size, _ in parts))
        at, kept, due, found = 0, {}, [], []
        for name, size, value in parts:
            here = heard[at:at + size]
            at += size
            if name:
                kept[name] = here
            due.append("?" * 2 * size if value is None else value.hex())
            found.append("?" * 2 * len(here) if value is None else here.hex())
        assert due == found, f"due   {' '.join(due)}\nfound {' '.join(found)}"
        return kept

    @staticmethod
    def part(text, known):
        """(name, length, bytes or None) of one part."""
        if not text.startswith("<"):
            return None, len(text) // 2, bytes.fromhex(text)
        name, _, size = text[1:-1].rpartition(":")
        if name or size.isdigit():
            return name or None, int(size), None
        return None, len(known[size]), known[size]

    def read(self, count):
        """So many bytes, or all that come before the end."""
        while len(self.raw.input) < count:
            more = self.more()
            if not more:
                break
            self.raw.input += more
        heard, self.raw.input = self.raw.input[:count], self.raw.input[count:]
        return heard

    def more(self):
        try:
            return self.raw.sock.recv(65536)
        except ConnectionResetError:
            return b""

    def ends(self):
        """Nothing follows but the end of the connection."""
        rest = self.raw.input + self.more()
        assert rest == b"", rest.hex()
        self.raw.close()

    def is_quiet(self):
        """Nothing was sent but what was heard: the next thing is the answer to a ping."""
        self.say("00000008 fffffffe 0000000b")
        self.hear("00000010 fffffffe <8> 00000000")

    def close(self):
        self.raw.close()


def client(server, **how):
    """A connection with a session."""
    raw = zk.Raw(server.port, timeout=PATIENCE_S, source=how.pop("source", None))
    raw.connect(**{"timeout": 30000, **how})
    return raw


def is_closed(raw):
    """Whether nothing follows but the end."""
    try:
        frame = raw.read_frame()
    except (zk.Closed, OSError):
        return True
    raise AssertionError(f"{frame.hex()} instead of the end")


def event(answer):
    """(zxid, type, path) of an event."""
    xid, zxid, err, body = answer
    kind, state = struct.unpack_from(">ii", body)
    assert (xid, err, state) == (-1, 0, 3), answer
    path, at = zk.read_buf(body, 8)
    assert at == len(body)
    return zxid, kind, path.decode()


def events_until(raw, xid):
    """Events as (zxid, type, path) up to the reply with this xid, and that reply."""
    events = []
    while True:
        answer = raw.reply()
        if answer[0] != -1:
            assert answer[0] == xid, (answer, xid)
            return events, answer
        events.append(event(answer))


def events_of(raw):
    """The events of all that was answered to anybody before, in order: a ping would not wait for another core."""
    return asked(raw, zk.SYNC, zk.text("/"))[0]


def asked(raw, op, body=b""):
    """The events before the reply, and the reply as (zxid, err, body)."""
    xid = raw.ask(op, body)
    events, answer = events_until(raw, xid)
    return events, answer[1:]
