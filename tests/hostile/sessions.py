"""Sessions (findings 7, 13): nobody expires whose bytes wait in a socket, and who is silent expires under any load."""

import contextlib
import multiprocessing
import multiprocessing.sharedctypes
import selectors
import time

from harness import Failure, Flow, Place, alive, check, client, closing, holds, standing_still, wait_until, zk

TIMEOUT_MS = 1500
# The server stands still for longer than any session of the test lasts.
STILL_S = TIMEOUT_MS / 1000 * 1.75


def comes_back(server, restarted):
    """A client whose handshake waits in the socket while the server stands still: what it is answered."""
    owner = client(server, timeout=TIMEOUT_MS)
    check(owner.call(zk.CREATE, zk.create_body(f"/of-{restarted}", b"", 1))[1] == 0, "an ephemeral is made")
    if restarted:
        server.restart()
    owner.close()
    with standing_still(server):
        back = zk.Raw(server.port)
        back.send_frame(back.connect_payload(timeout=TIMEOUT_MS, session=owner.session, password=owner.password))
        time.sleep(STILL_S)
    what = "after a restart" if restarted else "held before"
    try:
        back.connected()
    except zk.Closed as e:
        raise Failure(f"a session ({what}): its connection was closed without an answer") from e
    check(back.session == owner.session and back.timeout,
          f"a session ({what}) was answered as expired although its client's handshake lay in the socket while the server stood still")
    err = back.call(zk.EXISTS, zk.path_body(f"/of-{restarted}"))[1]
    check(err == 0, f"a session ({what}) came back and its ephemeral is gone ({err})")
    back.close()


@holds("7", plain=True)
def nobody_expires_whose_handshake_waits_in_the_socket(place: Place):
    with place.server() as server:
        for restarted in (False, True):
            comes_back(server, restarted)
        alive(server)


@holds("7")
def nobody_expires_whose_ping_waits_in_the_socket(place: Place):
    with place.server() as server:
        clients = [client(server, timeout=TIMEOUT_MS) for _ in range(8)]
        with standing_still(server):
            for one in clients:
                one.ask(zk.PING, xid=-2)
            time.sleep(STILL_S)
        for one in clients:
            check(one.reply()[2] == 0, "a ping that waited is answered")
        expired = server.figures()["stale_sessions_expired"]
        check(expired == 0, f"{expired} of {len(clients)} sessions expired although their pings lay in the sockets")


def writers(port, count, depth, counted, going):
    """So many connections that keep so many writes under way each; counts the answers."""
    flows = []
    for _ in range(count):
        raw = zk.Raw(port)
        raw.connect(timeout=30000)
        flows.append(Flow(raw.sock))
    frame = zk.request(1, zk.SET, zk.set_body("/load", b"x"))
    selector = selectors.DefaultSelector()
    for flow in flows:
        selector.register(flow.sock, selectors.EVENT_READ, flow)
        flow.send(frame * depth)
    while going.value:
        for key, _ in selector.select(1):
            flow, before = key.data, key.data.frames
            flow.read()
            flow.send(frame * (flow.frames - before))
            counted.value += flow.frames - before


@contextlib.contextmanager
def load(server, count, depth):
    """A process of writers: the shared counter of their answers."""
    context = multiprocessing.get_context("fork")
    going, counted = multiprocessing.sharedctypes.RawValue("i", 1), multiprocessing.sharedctypes.RawValue("q", 0)
    process = context.Process(target=writers, args=(server.port, count, depth, counted, going), daemon=True)
    process.start()
    try:
        yield counted
    finally:
        going.value = 0
        process.join(5)
        process.kill()


@holds("13")
def who_is_silent_expires_under_any_load(place: Place):
    """Twice as many writes are under way as there are credits, on more connections than the review tried: a
    session that says nothing is gone after a bounded number of them."""
    with place.server(snapCount=10_000_000, preAllocSize=65536) as server:
        maker = client(server)
        check(maker.call(zk.CREATE, zk.create_body("/load", b""))[1] == 0, "a node is made")
        with load(server, 400, 8) as counted:
            wait_until(lambda: counted.value > 5_000, "the load is not served")
            # Two timeouts' worth of the load, measured; then the guard of the waiting.
            silent = client(server, timeout=1000)
            check(silent.call(zk.CREATE, zk.create_body("/mine", b"", 1))[1] == 0, "an ephemeral is made")
            begun = counted.value
            gone = lambda: maker.call(zk.EXISTS, zk.path_body("/mine"))[1] == zk.NO_NODE  # noqa: E731
            wait_until(gone, lambda: f"a silent session still owns its node after {counted.value - begun} writes of others")
            passed = counted.value - begun
            check(maker.ping()[2] == 0, "the watcher is served")
        closing([silent])
        alive(server)
        return f"gone after {passed} writes of 400 connections"
