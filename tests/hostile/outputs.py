"""Who reads much, slowly or not at all (findings 6, 8, 9, 12): nothing is lost, and only who causes it waits."""

import random
import time

from harness import (MEGABYTE, PING, Flow, Loop, Place, alive, busy, check, client, closing, end, finish, has, holds, make_big,
                     median, standing_still, zk)

# Receive buffer of one who reads slowly, bytes: most of a large reply waits in the server.
SMALL = 32 << 10


def pipelined(requests):
    """The frames of (operation, body) with xids from 1."""
    return b"".join(zk.request(xid, op, body) for xid, (op, body) in enumerate(requests, 1))


@holds("6", plain=True)
def reads_between_two_writes_are_answered_however_long(place: Place):
    with place.server() as server:
        make_big(server)
        write, read = (zk.SET, zk.set_body("/small", b"x")), (zk.GET, zk.path_body("/big0"))
        maker = client(server)
        check(maker.call(zk.CREATE, zk.create_body("/small", b""))[1] == 0, "a node is made")
        check(maker.call(zk.CREATE, zk.create_body("/middle", bytes(100_000)))[1] == 0, "a node is made")
        end(maker)
        middle = (zk.GET, zk.path_body("/middle"))
        for requests in ([write, *[read] * 25, write], [write, *[middle] * 250, write], [write, read] * 30 + [write]):
            flow = busy(server)
            due = flow.frames + len(requests)
            with standing_still(server):
                flow.send(pipelined(requests))
            finish(server, [flow], has(due))
            check(flow.frames == due, f"a client that reads at once got {flow.frames + len(requests) - due} of {len(requests)} replies "
                                      f"to {len(requests)} pipelined requests, then its connection was closed")
            closing([flow])
        alive(server)
        return "27, 252 and 61 replies"


@holds("8")
def slow_readers_take_no_descriptor_from_the_log(place: Place):
    limit, slow, writes = 200, 98, 120
    with place.server(open_files=limit) as server:
        make_big(server)
        writer = client(server)
        check(writer.call(zk.CREATE, zk.create_body("/w", b""))[1] == 0, "a node is made")
        readers, refused = [], 0
        for n in range(writes):
            if n < slow:
                try:
                    raw = client(server, receive_buffer=SMALL)
                    for _ in range(12):
                        raw.ask(zk.GET, zk.path_body("/big0"))
                    readers.append(raw)
                except (zk.Closed, OSError):
                    refused += 1
            try:
                err = writer.call(zk.SET, zk.set_body("/w", bytes(500_000)))[1]
            except (zk.Closed, OSError) as e:
                err = repr(e)
            check(err == 0, f"write {n} with {len(readers)} slow readers and {limit} open files: {err}; {server.ended() or 'the server runs'}")
        closing(readers)
        alive(server)
        server.stop()
        return f"{writes} writes of 500,000 bytes, {len(readers)} slow readers of {slow}, {refused} refused"


@holds("9")
def a_slow_steady_reader_is_not_cut(place: Place):
    """One reply of 12 MB, read in pieces with a pause between them, pings all the while: for several
    session timeouts the kernel never takes all that waits in the server."""
    children, name_bytes, timeout_ms = 16, 750_000, 1000
    with place.server(minSessionTimeout=timeout_ms) as server:
        maker = client(server)
        check(maker.call(zk.CREATE, zk.create_body("/wide", b""))[1] == 0, "a node is made")
        for n in range(children):
            check(maker.call(zk.CREATE, zk.create_body(f"/wide/{n:03}{'x' * name_bytes}", b""))[1] == 0, "a child is made")
        end(maker)
        reader = client(server, timeout=timeout_ms, receive_buffer=SMALL)
        reader.ask(zk.CHILDREN, zk.path_body("/wide"))
        due, got, n = children * name_bytes, 0, 0
        while got < due:
            if n % 20 == 0:
                # A ping that finds the connection closed is found by the read that follows.
                try:
                    reader.ask(zk.PING, xid=-2)
                except OSError:
                    pass
            time.sleep(0.01)
            n += 1
            try:
                more = reader.sock.recv(24 << 10)
            except ConnectionResetError:
                more = b""
            check(more, f"a reader that took some bytes every 10 ms was cut after {got} of {due} bytes, session timeout {timeout_ms} ms; "
                        f"{server.ended() or 'the server runs'}")
            got += len(more)
        reader.close()
        return f"{got} bytes in {n} pieces"


# Pings that make the server's reading buffer grow, so that all that follows them is read at once.
WARMING_PINGS = 3_627


@holds("12")
def writes_behind_large_reads_wait_for_no_timer(place: Place):
    """Reads that fill the output, then more writes than there are credits: from the last read's reply to the
    first write's no more passes than twice what the same writes need from their sending without reads. No time is compared with a
    constant; the two kinds alternate."""
    writes, rounds = 1_500, 9
    tail = [(zk.SET, zk.set_body("/small", b"x"))] * writes

    def lull(server, reads):
        # Or the rounds would fall into step with the server's timers.
        time.sleep(random.uniform(0, 0.05))
        flow = Flow(client(server, receive_buffer=8 << 20).sock)
        base = flow.frames + WARMING_PINGS + reads
        loop = Loop(flow)
        with standing_still(server):
            flow.send(PING * WARMING_PINGS + pipelined([(zk.GET, zk.path_body("/big0"))] * reads + tail))
        began = time.monotonic()
        if reads:
            loop.until(lambda: has(base)(flow), "reads are not answered")
            began = time.monotonic()
        loop.until(lambda: has(base + 1)(flow), "writes are not answered")
        took = time.monotonic() - began
        loop.until(lambda: has(base + writes)(flow), "writes are not answered")
        check(not flow.closed, f"the connection was closed; {server.ended() or 'the server runs'}")
        closing([flow])
        return took * 1000

    with place.server() as server:
        make_big(server, size=MEGABYTE)
        maker = client(server)
        check(maker.call(zk.CREATE, zk.create_body("/small", b""))[1] == 0, "a node is made")
        end(maker)
        behind, alone = map(median, zip(*((lull(server, 5), lull(server, 0)) for _ in range(rounds))))
        check(behind <= 2 * alone, f"the first of {writes} writes is answered {behind:.1f} ms after the last of 5 large reads before it, "
                                   f"and {alone:.1f} ms after its sending without them (medians of {rounds})")
        return f"{behind:.1f} ms behind large reads, {alone:.1f} ms without them"
