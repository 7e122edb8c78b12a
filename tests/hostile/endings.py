"""Connections that end in every way (finding 1): each gives back task, descriptor, counts, credits and memory."""

import contextlib
import os
import pathlib
import struct
import time

from harness import PATIENCE_S, PING, Failure, Flow, Place, alive, check, client, closing, disk_is_measured, end, finish, holds, make_big, wait_until, zk

TIMES = 1_000
# Of each way, where everything was shown with the newer features already.
PLAIN_TIMES = 100
# First a few, to name every way that leaves something; then some, until memory is what it stays.
LOOK = 20
WARM = 300
# Connections that are open at once.
BATCH = 50
# Session timeouts, ms: of those who leave their session behind, and of those who need it.
SHORT_MS, LONG_MS = 400, 20_000
# What memory may differ by, bytes: what allocators keep in another order.
MEMORY_SLACK = 8 << 20
CONNECTIONS_PER_ADDRESS = 300
# An address of its own for those who are too many.
CROWDED = "127.0.0.9"
WORDS = [b"ruok", b"srvr", b"stat", b"mntr", b"conf", b"cons", b"isro", b"dump", b"envi", b"dirs", b"crst", b"srst", b"wchs",
         b"wchc", b"wchp", b"gtmk", b"stmk", b"hash", b"lead", b"stgs", b"abcd", b"\xff\xff\xff\xff"]


def framed(payload):
    return struct.pack(">i", len(payload)) + payload


HELLO = framed(zk.Raw.connect_payload(timeout=SHORT_MS))
LONG_HELLO = framed(zk.Raw.connect_payload(timeout=LONG_MS))
WRITE = zk.request(1, zk.SET, zk.set_body("/target", b"x"))
CLOSE = zk.request(2, zk.CLOSE)


def dials(server, count, source=None, **how):
    """Bare connections; from many addresses, or those that the server has not yet let go would count."""
    return [zk.Raw(server.port, source=source or f"127.0.1.{n + 1}", **how) for n in range(count)]


def opened(server, count, hello=HELLO, **how):
    """Connections with sessions, opened together."""
    raws = dials(server, count, **how)
    for raw in raws:
        raw.sock.sendall(hello)
    for raw in raws:
        raw.connected()
    return raws


def until_closed(server, raws, why):
    """Reads until the server has closed each; then closes ours."""
    flows = [Flow(raw.sock) for raw in raws]
    finish(server, flows, lambda flow: flow.closed, why)
    closing(raws)


def said(server, count, data, why):
    """Sends bytes on bare connections that the server then closes."""
    raws = dials(server, count)
    for n, raw in enumerate(raws):
        raw.sock.sendall(data(n) if callable(data) else data)
    until_closed(server, raws, why)


def said_in_session(server, count, data, why):
    raws = opened(server, count)
    for raw in raws:
        # On a busy machine the session may have expired.
        with contextlib.suppress(OSError):
            raw.sock.sendall(data)
    until_closed(server, raws, why)


def reset_after(server, count, data, **how):
    """Sends bytes within a session, then RST."""
    for raw in opened(server, count, **how):
        with contextlib.suppress(OSError):
            raw.sock.sendall(data)
        raw.reset()


def closed_at_once(server, count):
    closing(dials(server, count))


def half_a_handshake_then_reset(server, count):
    for raw in dials(server, count):
        raw.sock.sendall(HELLO[:20])
        raw.reset()


def handshake_and_requests_then_reset(server, count):
    for raw in dials(server, count):
        raw.sock.sendall(HELLO + WRITE * 5 + PING * 5)
        raw.reset()


def zero_bytes(server, count):
    said(server, count, bytes(4), "a first frame of no bytes is not closed")


def junk_first(server, count):
    said(server, count, lambda n: framed(bytes((n * 7 + i * 31) % 256 for i in range(13))), "a first frame of junk is not closed")


def last_zxid_too_new(server, count):
    hello = framed(zk.Raw.connect_payload(timeout=SHORT_MS, seen=1 << 60))
    said(server, count, hello + PING, "a client from the future is not closed")


def wrong_password(server, count):
    owner = client(server)
    hello = framed(zk.Raw.connect_payload(timeout=SHORT_MS, session=owner.session, password=b"x" * 16))
    said(server, count, hello, "a wrong password is not closed")
    end(owner)


def words(server, count):
    raws = dials(server, count)
    for n, raw in enumerate(raws):
        raw.sock.sendall(WORDS[n % len(WORDS)])
        if n % 3 == 2:
            raw.reset()
    until_closed(server, [raw for n, raw in enumerate(raws) if n % 3 != 2], "a four-letter word's connection is not closed")


def reset_in_a_frame(server, count):
    reset_after(server, count, WRITE[:-3])


def writes_then_reset(server, count):
    reset_after(server, count, WRITE * 4)


def watches_then_reset(server, count):
    reset_after(server, count, zk.request(1, zk.GET, zk.path_body("/target", watch=True)))


def firehose_then_reset(server, count):
    reset_after(server, count, PING * 2_000)


def slow_reader_then_reset(server, count):
    reset_after(server, count, zk.request(1, zk.GET, zk.path_body("/big0")), receive_buffer=4096)


def half_close(server, count):
    raws = opened(server, count)
    for raw in raws:
        with contextlib.suppress(OSError):
            raw.sock.sendall(WRITE * 2 + zk.request(1, zk.GET, zk.path_body("/big0")))
            raw.sock.shutdown(zk.socket.SHUT_WR)
    until_closed(server, raws, "a half-closed connection stays")


def close_session(server, count):
    said_in_session(server, count, CLOSE, "closeSession does not close")


def close_session_and_more(server, count):
    said_in_session(server, count, WRITE + CLOSE + WRITE * 3 + PING * 100, "closeSession with bytes behind it does not close")


def close_session_then_reset(server, count):
    reset_after(server, count, CLOSE + WRITE)


def oversize(server, count):
    said_in_session(server, count, struct.pack(">i", 1 << 20) + b"x" * 100, "a frame above jute.maxbuffer does not close")


def negative_length(server, count):
    said_in_session(server, count, struct.pack(">i", -5) + b"x" * 100, "a negative length does not close")


def unknown_operation(server, count):
    said_in_session(server, count, zk.request(1, 999), "an unknown operation does not close")


def failed_auth(server, count):
    said_in_session(server, count, zk.request(-4, zk.AUTH, zk.auth_body("nobody", b"x")), "a failed authentication does not close")


def expiry(server, count):
    until_closed(server, opened(server, count), "a silent connection outlives its session")


def stolen(server, count):
    held = opened(server, count, hello=LONG_HELLO)
    thieves = dials(server, count)
    for raw, thief in zip(held, thieves):
        thief.send_frame(zk.Raw.connect_payload(timeout=LONG_MS, session=raw.session, password=raw.password))
    for raw, thief in zip(held, thieves):
        thief.connected()
        check(thief.session == raw.session, "a session moves")
    until_closed(server, held, "the connection that lost its session stays")
    for thief in thieves:
        thief.sock.sendall(CLOSE)
    until_closed(server, thieves, "closeSession does not close")


def too_many_of_an_address(server, count):
    idle = dials(server, CONNECTIONS_PER_ADDRESS, source=CROWDED)
    wait_until(lambda: server.figures()["num_alive_connections"] > CONNECTIONS_PER_ADDRESS, "connections are not accepted")
    for _ in range(count):
        # The refusal may come before `connect` has returned.
        with contextlib.suppress(ConnectionResetError):
            until_closed(server, dials(server, 1, source=CROWDED), "a connection above maxClientCnxns is not refused")
    closing(idle)


# Sessions that wait for their expiry cost a timeout a batch; the refused need many others beside them.
LARGE = {expiry: 250, too_many_of_an_address: TIMES}
WAYS = [closed_at_once, half_a_handshake_then_reset, handshake_and_requests_then_reset, zero_bytes, junk_first, last_zxid_too_new,
        wrong_password, words, reset_in_a_frame, writes_then_reset, watches_then_reset, firehose_then_reset, slow_reader_then_reset,
        half_close, close_session, close_session_and_more, close_session_then_reset, oversize, negative_length, unknown_operation,
        failed_auth, expiry, stolen, too_many_of_an_address]


# With the connection that asks for the figures.
NOBODY = {"num_alive_connections": 1, "outstanding_requests": 0, "global_sessions": 0, "watch_count": 0, "ephemerals_count": 0}


def shard_counts(server):
    """Each shard's own count of its connections, when it has none: the one that asks for the figures is a word, and no shard's."""
    return {f"shard_{n}_connections": 0 for n in range(int(server.options["shards"]))}


def settled(server):
    """What must be the same before and after, once sessions and connections are gone."""
    figures = server.figures()
    names = (*NOBODY, *shard_counts(server))
    return {**{name: figures[name] for name in names}, "descriptors": server.descriptors(), "threads": len(server.tasks())}


def calm_state(server, **known):
    """The fewest descriptors of several looks: the connection that asks for figures may still be open."""
    looks = []
    for _ in range(10):
        looks.append(settled(server))
        time.sleep(0.01)
    return {**looks[-1], "descriptors": min(look["descriptors"] for look in looks), **known}


def differences(before, now):
    return ", ".join(f"{name} {now[name]} instead of {value}" for name, value in before.items() if now[name] != value)


def end_in(way, server, times):
    for done in range(0, times, LARGE.get(way, BATCH)):
        way(server, min(LARGE.get(way, BATCH), times - done))
    check(server.ended() is None, f"{way.__name__}: {server.ended()}")


def left_behind(server, calm, patience=PATIENCE_S):
    """What does not go back to what it was; empty if all does."""
    until = time.monotonic() + patience
    while (now := settled(server)) != calm and time.monotonic() < until:
        time.sleep(0.02)
    return differences(calm, now)


def look_for_leaks(server):
    """Each way a few times: all that leave something are named, not the first alone."""
    leaks = []
    for way in WAYS:
        calm = calm_state(server, **({} if leaks else {**NOBODY, **shard_counts(server)}))
        end_in(way, server, LOOK)
        if leak := left_behind(server, calm, PATIENCE_S / 5 if leaks else PATIENCE_S):
            leaks.append(f"{LOOK} × {way.__name__}: {leak}")
    check(not leaks, f"left behind by connections that ended in {len(leaks)} of {len(WAYS)} ways: {'; '.join(leaks)}")


@holds("1", plain=True)
def connections_end_in_every_way_and_leave_nothing(place: Place):
    with place.server(snapCount=100_000_000, preAllocSize=65536, maxClientCnxns=CONNECTIONS_PER_ADDRESS,
                      tickTime=100, minSessionTimeout=SHORT_MS) as server:
        make_big(server, size=900_000)
        maker = client(server)
        check(maker.call(zk.CREATE, zk.create_body("/target", b""))[1] == 0, "a node is made")
        end(maker)
        wait_until(lambda: settled(server)["global_sessions"] == 0, "sessions stay")
        # The log keeps the files of two spare segments open, made ahead in the background.
        wait_until(lambda: server.spares() == 2, "spare segments are not made")
        disk_is_measured(server)
        look_for_leaks(server)
        calm = calm_state(server, **NOBODY, **shard_counts(server))
        most = PLAIN_TIMES if place.plain else TIMES
        for times in (min(WARM, most), most):
            memory = server.memory()
            for way in WAYS:
                end_in(way, server, times)
            leak = left_behind(server, calm)
            check(not leak, f"left behind by {times} connections of each way: {leak}")
        grown = server.memory() - memory
        check(grown <= MEMORY_SLACK, f"{len(WAYS) * most} connections later the process holds {grown >> 10} KiB more")
        # More requests without an outcome than there are credits would stop everybody.
        alive(server)
        return f"{len(WAYS)} ways, {most} times each: descriptors, threads, counts equal, memory {grown >> 10} KiB"


def sockets(server):
    """How many the process holds: the kernel answers even if the server refuses."""
    directory = pathlib.Path(f"/proc/{server.process.pid}/fd")
    return sum(os.readlink(entry).startswith("socket:") for entry in directory.iterdir())


@holds("1")
def discarded_handshakes_lock_nobody_out(place: Place):
    """As many as an address may have connections, by default 60, and more."""
    with place.server(maxClientCnxns=60) as server:
        for data in (framed(zk.Raw.connect_payload(seen=1 << 60)), bytes(4), framed(b"junk of a port scanner")):
            for n in range(40):
                try:
                    raws = dials(server, 1, source="127.0.0.1")
                except ConnectionResetError as e:
                    raise Failure(f"connection {n + 1} with the first frame {data[:12].hex()}… was refused although all before it are closed, "
                                  f"and so is everybody of this address; the process holds {sockets(server)} sockets") from e
                raws[0].sock.sendall(data)
                until_closed(server, raws, "a handshake that makes no sense is not closed")
        alive(server, "a good client of the same address")
        left = server.figures()["num_alive_connections"]
        check(left == 1, f"{left - 1} connections are counted that nobody has")
