"""Requests that ask for much work (findings 2, 3, 4, 20, 21): nobody else waits for more than a slice of it."""

import contextlib
import multiprocessing
import multiprocessing.sharedctypes
import socket
import struct
import threading

from harness import (HEADER_REPLY, MEGABYTE, PING, Flow, Loop, Place, alive, busy, check, client, closing, end, finish, has, holds,
                     make_big, standing_still, wait_until, zk)
from tracing import calls_in, descriptors, every_call, looks_until_answered, served_before, taken_at_once

# Sessions that wait while another is busy: enough that each shard serves some.
WITNESSES = 4
# Bytes taken from one connection between two looks at everybody else: those of one full read, and of a turn
# (1,024 pings, and the last slice may overdraw it by 128).
FIREHOSE_AT_ONCE = (64 << 10) + 1_152 * len(PING)
# Bytes of the replies to exists and to a handshake.
STAT_REPLY = HEADER_REPLY + zk.STAT.size
HANDSHAKE_REPLY = 41
# Growth of the process's memory for one connection's replies, bytes.
MULTI_READ_MEMORY = 64 << 20


@holds("2", plain=True)
def a_multi_read_of_more_than_memory_holds_ends_at_a_bound(place: Place):
    with place.server() as server:
        make_big(server, size=MEGABYTE)
        before = server.memory("VmHWM")
        asking = client(server)
        item = struct.pack(">ibi", zk.GET, 0, -1) + zk.path_body("/big0")
        body = item * 2200 + struct.pack(">ibi", -1, 1, -1)
        asking.ask(zk.MULTI_READ, body)
        outcome = "an answer"
        try:
            err = asking.reply()[2]
            outcome = f"error {err}" if err else outcome
        except (zk.Closed, ConnectionError):
            outcome = "the connection closed"
        asking.close()
        alive(server)
        grown = server.memory("VmHWM") - before
        check(grown <= MULTI_READ_MEMORY, f"a request of {len(body)} bytes took {grown >> 20} MiB of memory ({outcome})")
        return f"{outcome}, {grown >> 20} MiB"


def one_sends(flow, data):
    """A crowd of one."""
    def send():
        flow.send(data)
        return [flow]
    return send


@holds("3a", plain=True)
def who_authenticates_20_000_times_holds_up_nobody(place: Place):
    count, bound = 20_000, 3_000
    with place.server() as server:
        crowd, witnesses = busy(server), [busy(server) for _ in range(WITNESSES)]
        burst = b"".join(zk.request(-4, zk.AUTH, zk.auth_body("digest", b"u%d:p" % n)) for n in range(count))
        before = served_before(server, one_sends(crowd, burst), witnesses).crowd
        check(before <= bound, f"{before} of {count} auths were answered before a ping that was there when they came, {bound} may be")
        finish(server, [crowd], has(count))
        alive(server)
        return f"{before} auths before a waiting ping, of {count}"


@holds("3b")
def long_acls_hold_up_nobody_who_writes(place: Place):
    count, entries, bound = 16, 45_000, 8
    with place.server() as server:
        # All different: 31 permissions, 10,000 addresses.
        access = zk.acl(*((n % 31 + 1, "ip", ".".join(f"{n // 31:04}")) for n in range(entries)))
        frame = zk.request(1, zk.CREATE, zk.create_body("/none/there", b"", access=access))
        crowd, witness = busy(server), busy(server)
        word = zk.request(7, zk.DELETE, zk.delete_body("/none-either"))
        loop = Loop(crowd, witness)
        crowd.send(frame * count)
        gaps = []
        while not has(count)(crowd):
            due, before = witness.frames + 1, crowd.frames
            witness.send(word)
            loop.until(lambda: has(due)(witness), lambda: f"who writes is not answered at all while {crowd.frames - before} of {count} "
                                                          f"creates with {entries} ACL entries are")
            check(not witness.closed, f"who writes was closed; {server.ended() or ''}")
            gaps.append(crowd.frames - before)
        check(max(gaps) <= bound, f"{max(gaps)} of {count} creates with {entries} ACL entries were answered between two answers to "
                                  f"another client, {bound} may be; that one got {len(gaps)} answers in all")
        alive(server)
        return f"another client got {len(gaps)} answers meanwhile, at most {max(gaps)} creates between two"


@holds("3c")
def reads_of_a_node_with_a_long_acl_hold_up_nobody(place: Place):
    count, bound = 2_000, 100
    with place.server() as server:
        maker = client(server)
        for entries in (35_000, 10_000, 4_000, 1_000, 250):
            access = zk.acl(*((31, "ip", f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}") for n in range(entries)))
            if maker.call(zk.CREATE, zk.create_body("/guarded", b"", access=access))[1] == 0:
                break
        else:
            check(False, "not even 250 entries are accepted")
        end(maker)
        crowd, witnesses = busy(server), [busy(server) for _ in range(WITNESSES)]
        burst = zk.request(3, zk.EXISTS, zk.path_body("/guarded")) * count
        before = served_before(server, one_sends(crowd, burst), witnesses, STAT_REPLY).crowd
        check(before <= bound, f"{before} of {count} reads of a node with {entries} ACL entries were answered before a ping that was there "
                               f"when they came, {bound} may be")
        finish(server, [crowd], has(count))
        return f"{entries} entries: {before} reads before a waiting ping, of {count}"


@holds("4", plain=True)
def a_burst_of_pings_is_not_served_before_everybody_else(place: Place):
    count, bound = 10_000, 5_000
    with place.server() as server:
        crowd, witnesses = busy(server), [busy(server) for _ in range(WITNESSES)]
        before = served_before(server, one_sends(crowd, PING * count), witnesses).crowd
        check(before <= bound, f"{before} of {count} pings were answered before one that was there when they came, {bound} may be")
        finish(server, [crowd], has(count))
        return f"{before} pings before a waiting one, of {count}"


def firehose(port, counted, going):
    """Pings as fast as one connection takes them, and counts the answers."""
    raw = zk.Raw(port)
    raw.connect(timeout=30000)

    def send():
        with contextlib.suppress(OSError):
            while True:
                raw.sock.sendall(PING * 4096)

    threading.Thread(target=send, daemon=True).start()
    received = 0
    buffer = bytearray(1 << 18)
    while going.value:
        received += raw.sock.recv_into(buffer)
        counted.value = received // HEADER_REPLY


@contextlib.contextmanager
def firehoses(server, count):
    """So many processes that ping as fast as they can: their shared counters."""
    context = multiprocessing.get_context("fork")
    going = multiprocessing.sharedctypes.RawValue("i", 1)
    counters = [multiprocessing.sharedctypes.RawValue("q", 0) for _ in range(count)]
    processes = [context.Process(target=firehose, args=(server.port, counter, going), daemon=True) for counter in counters]
    for process in processes:
        process.start()
    try:
        yield counters
    finally:
        going.value = 0
        for process in processes:
            process.join(5)
            process.kill()


@holds("4")
def one_who_pings_as_fast_as_it_can_holds_up_nobody(place: Place):
    with place.server() as server:
        witnesses = [client(server) for _ in range(WITNESSES)]
        check(witnesses[0].call(zk.CREATE, zk.create_body("/w", b""))[1] == 0, "a node is made")
        with firehoses(server, 1) as counters:
            wait_until(lambda: counters[0].value > 10_000, "the firehose is not served")
            before = counters[0].value
            with every_call(server) as trace:
                for witness in witnesses * 5:
                    check(witness.ping()[2] == 0, "a ping is answered")
                    check(witness.call(zk.SET, zk.set_body("/w", b"x"))[1] == 0, "a write is answered")
                wait_until(lambda: counters[0].value > before + 10_000, "the firehose is not served any more")
        at_once = taken_at_once(calls_in(trace.text))
        check(at_once <= FIREHOSE_AT_ONCE, f"{at_once} bytes of pings were taken from the firehose between two looks at everybody else, "
                                           f"{FIREHOSE_AT_ONCE} may be")
        check(server.figures()["stale_sessions_expired"] == 0, "a session expired")
        alive(server)
        return f"{at_once} bytes of pings taken from the firehose between two looks"


def dial(server):
    """A bare connection."""
    return Flow(socket.create_connection(("127.0.0.1", server.port)))


@holds("20")
def connections_that_come_at_once_hold_up_nobody(place: Place):
    count, bound = 2_000, 500
    with place.server(clientPortListenBacklog=4096) as server:
        witnesses = [busy(server) for _ in range(WITNESSES)]
        # A handshake for a session that never was: answered without a write.
        hello = zk.Raw.connect_payload(session=0x7777, password=b"p" * 16)
        crowd = []

        def connect():
            for _ in range(count):
                crowd.append(dial(server))
                crowd[-1].send(struct.pack(">i", len(hello)) + hello)
            return crowd

        served = served_before(server, connect, witnesses, HANDSHAKE_REPLY, until=has(1))
        check(served.crowd <= bound, f"{served.crowd} of {count} handshakes were answered before pings that came with them, {bound} may be")
        check(served.greeted <= bound, f"a thread took {served.greeted} of {count} connections without a look at anything else, {bound} may be")
        answered = sum(flow.frames for flow in crowd)
        closing(crowd)
        check(answered == count, f"{answered} of {count} handshakes were answered")
        alive(server)
        return f"{served.crowd} handshakes before waiting pings, {served.greeted} connections at once, of {count}"


@holds("20", plain=True)
def connections_that_end_at_once_hold_up_nobody(place: Place):
    count, bound = 2_000, 600
    with place.server() as server:
        witnesses = [busy(server) for _ in range(WITNESSES)]
        crowd = [dial(server) for _ in range(count)]
        wait_until(lambda: server.figures()["num_alive_connections"] > count, "connections are not accepted")

        def leave():
            closing(crowd)
            return []

        served = served_before(server, leave, witnesses)
        check(served.greeted <= bound, f"a thread looked at {served.greeted} of {count} connections that had ended without a look at "
                                       f"anything else, {bound} may be")
        wait_until(lambda: server.figures()["num_alive_connections"] < 10, "connections that have ended are counted")
        alive(server)
        return f"{served.greeted} connections at once, of {count}"


@holds("21")
def four_letter_words_hold_up_nobody(place: Place):
    idle, words, bound = 1_000, 60, 30
    with place.server() as server:
        others = [dial(server) for _ in range(idle)]
        witnesses = [busy(server) for _ in range(WITNESSES)]
        crowd = [dial(server) for _ in range(words)]
        wait_until(lambda: server.figures()["num_alive_connections"] > idle + words, "connections are not accepted")

        def ask():
            for n, flow in enumerate(crowd):
                flow.send((b"mntr", b"cons", b"conf", b"isro")[n % 4])
            return crowd

        served = served_before(server, ask, witnesses, reply=None, until=lambda flow: flow.closed)
        check(served.crowd <= bound, f"{served.crowd} of {words} four-letter words were answered before pings that came with them, "
                                     f"{bound} may be")
        check(served.blocking == 0, f"a thread that serves clients made {served.blocking} calls into the file system for {words} words")
        check(all(flow.received for flow in crowd), "a word got no answer")
        closing(crowd + others)
        return f"{served.crowd} words before waiting pings, of {words}"


def watch_lists(*lists):
    """Body of a setWatches: data, exists and child watches of a client that has seen nothing."""
    return struct.pack(">q", 0) + b"".join(struct.pack(">i", len(paths)) + b"".join(map(zk.text, paths)) for paths in lists)


def worked_off_in_slices(server, frame, what, least=2):
    """Whether the core looks at completions, timers and everybody else while `frame` is worked off."""
    crowd = busy(server)
    fd = descriptors(server, [crowd])[crowd]
    # All of it but one byte is in the server's memory when the last byte makes it a request.
    crowd.send(frame[:-1])
    Loop(crowd).until(lambda: not crowd.output, "the server does not take the request")
    with every_call(server) as trace:
        crowd.send(frame[-1:])
        finish(server, [crowd], has(crowd.frames + 1))
    seen = looks_until_answered(calls_in(trace.text), fd)
    check(seen >= least, f"the core looked at others {seen} times while {what} was under way, {least} times it should")
    closing([crowd])
    alive(server)
    return f"{seen} looks at others meanwhile"


@holds("slices", plain=True)
def a_set_watches_of_80_000_paths_holds_up_nobody(place: Place):
    with place.server() as server:
        frame = zk.request(-8, zk.SET_WATCHES, watch_lists([], [f"/w{n:06}" for n in range(80_000)], []))
        return worked_off_in_slices(server, frame, "a setWatches of 80,000 paths")


@holds("slices")
def a_multi_read_of_60_000_nodes_holds_up_nobody(place: Place):
    with place.server() as server:
        frame = zk.request(3, zk.MULTI_READ, (struct.pack(">ibi", zk.GET, 0, -1) + zk.path_body("/")) * 60_000 + struct.pack(">ibi", -1, 1, -1))
        return worked_off_in_slices(server, frame, "a multiRead of 60,000 nodes")


@holds("slices")
def a_multi_of_10_000_operations_holds_up_nobody(place: Place):
    with place.server() as server:
        maker = client(server)
        check(maker.call(zk.CREATE, zk.create_body("/m", b""))[1] == 0, "a node is made")
        end(maker)
        frame = zk.request(1, zk.MULTI, zk.multi_body([(zk.SET, zk.set_body("/m", b""))] * 10_000))
        return worked_off_in_slices(server, frame, "a multi of 10,000 operations", least=4)


@holds("slices")
def lists_compared_for_events_are_work_of_a_turn(place: Place):
    # Anybody may write, which the first entry says. Who is here may read, which the last one says: all of the list is
    # compared for an event, and a turn may apply less than that.
    count, entries = 16, 3_000
    write, read = 2, 1
    strangers = ((read, "digest", f"u{n}:h") for n in range(entries))
    access = zk.acl((write, "world", "anyone"), *strangers, (read, "ip", "127.0.0.1"))
    with place.server() as server:
        watcher = client(server)
        for n in range(count):
            check(watcher.call(zk.CREATE, zk.create_body(f"/n{n}", b"", access=access))[1] == 0, "a node is made")
            check(watcher.call(zk.EXISTS, zk.path_body(f"/n{n}", watch=True))[1] == 0, "a watch is set")
        # It changes what it watches itself: with shards, the one that answers has the events too.
        crowd = Flow(watcher.sock)
        fd = descriptors(server, [crowd])[crowd]
        with every_call(server) as trace:
            crowd.send(b"".join(zk.request(1, zk.SET, zk.set_body(f"/n{n}", b"x")) for n in range(count)))
            finish(server, [crowd], has(2 * count))
        turns = sum(call.sent() and call.fd == fd for call in calls_in(trace.text))
        check(turns >= count, f"{count} sets of watched nodes with {entries} ACL entries each were answered in {turns} turns; a turn has "
                              "no room for two")
        closing([crowd])
        alive(server)
        return f"{count} sets in {turns} turns"
