"""What is stored (finding 5): a snapshot under way holds up no write."""

import time

from harness import Loop, PATIENCE_S, Place, alive, busy, check, client, end, holds, zk

NODES = 300_000
PER_MULTI = 1000
# Bytes; 8 of them fill the smallest segment that `preAllocSize` gives, 4 × jute.maxbuffer and 64 KiB.
WRITE = 500_000
# A snapshot is due after so many writes, and takes far longer to make.
SNAP_COUNT = 10
# Writes that must be answered from one snapshot to the next, at least once. A segment takes 8 of them, one spare
# lies ready when a snapshot begins and one is being filled: a server whose spares wait for it came to 40 at most.
WRITES_BETWEEN = 80
SNAPSHOTS = 5


def grow(server):
    """A tree whose snapshot takes a while."""
    flow = busy(server)
    due = flow.frames
    for first in range(0, NODES, PER_MULTI):
        creates = [(zk.CREATE, zk.create_body(f"/t{n:06}", b"")) for n in range(first, first + PER_MULTI)]
        flow.send(zk.request(1, zk.MULTI, zk.multi_body(creates)))
        due += 1
        Loop(flow).until(lambda: flow.closed or due - flow.frames < 4, "the tree does not grow")
    Loop(flow).until(lambda: flow.closed or flow.frames == due, "the tree does not grow")
    check(not flow.closed, "the tree does not grow")
    flow.sock.close()


@holds("5")
def a_snapshot_under_way_holds_up_no_write(place: Place):
    with place.server(snapCount=100_000_000, preAllocSize=65536) as server:
        grow(server)
        server.stop()
        server.options.update(snapCount=SNAP_COUNT, preAllocSize=64)
        server.start()
        maker = client(server)
        check(maker.call(zk.CREATE, zk.create_body("/w", b""))[1] == 0, "a node is made")
        end(maker)
        flow = busy(server)
        loop = Loop(flow)
        frame = zk.request(1, zk.SET, zk.set_body("/w", bytes(WRITE)))
        sent = answered = since = flow.frames
        seen, counts = set(), []
        guard = time.monotonic() + 2 * PATIENCE_S
        while len(counts) <= SNAPSHOTS and max(counts[1:], default=0) < WRITES_BETWEEN:
            check(time.monotonic() < guard, f"{len(counts)} snapshots in {2 * PATIENCE_S} s")
            while sent - flow.frames < 4:
                flow.send(frame)
                sent += 1
            loop.until(lambda: flow.frames > answered or flow.closed, "a write is never answered")
            check(not flow.closed, f"who writes was closed; {server.ended() or 'the server runs'}")
            answered = flow.frames
            there = {path.name for path in (server.data / "ringkeeper-1").glob("snap.*")}
            if there - seen:
                counts.append(answered - since)
                seen, since = seen | there, answered
        flow.sock.close()
        # The first follows a start.
        counts = counts[1:]
        check(max(counts) >= WRITES_BETWEEN, f"from one snapshot to the next {counts} writes of {WRITE} bytes were answered, at least "
                                             f"{WRITES_BETWEEN} must be possible while one is made")
        alive(server)
        return f"writes from one snapshot to the next: {counts}"
