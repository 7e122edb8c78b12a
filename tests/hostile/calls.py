"""System calls and wake-ups of a write, of a read, and of a thousand of each: counted by strace and by the kernel."""

import collections
import pathlib
import re

from harness import Flow, Loop, Place, check, client, disk_is_measured, has, holds, zk
from tracing import Strace

# Upper bounds of system calls by (shards or not, what). A lone read on one core: the wait, the receive, the
# send, and one more. A lone write: the wait, the receive, the append, the sync, the send, and two more. With
# shards a write crosses to the core that orders and back: a doorbell and a wait on each side.
CALLS = {
    ("inline", "lone read"): 4,
    ("inline", "lone write"): 7,
    ("shards", "lone read"): 4,
    ("shards", "lone write"): 14,
    # Together, not each: 1,000 requests in few turns.
    ("inline", "1,000 reads"): 150,
    ("inline", "1,000 writes"): 200,
    ("shards", "1,000 reads"): 150,
    ("shards", "1,000 writes"): 400,
}
# Upper bounds of voluntary switches of all threads: how often a thread went to sleep and was woken. The sync
# sleeps in the device, once or twice.
WAKES = {
    ("inline", "lone read"): 1.5,
    ("inline", "lone write"): 4,
    ("shards", "lone read"): 1.5,
    ("shards", "lone write"): 7,
}
LONE = 200
MANY = 1_000


def switches(server):
    """Voluntary context switches of all threads."""
    total = 0
    for task in server.tasks():
        text = pathlib.Path(f"/proc/{server.process.pid}/task/{task}/status").read_text()
        total += int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", text, re.M).group(1))
    return total


class Counted(Strace):
    """System calls of every thread between the beginning and the end."""

    def __init__(self, server):
        super().__init__(server, "-c", "-U", "name,calls")
        self.calls = collections.Counter()

    def __exit__(self, *how):
        super().__exit__(*how)
        for line in self.text.splitlines():
            found = re.match(r"^\s*(\w+)\s+(\d+)\s*$", line)
            if found and found.group(1) != "total":
                self.calls[found.group(1)] += int(found.group(2))

    @property
    def total(self):
        return sum(self.calls.values())

    def shown(self, per=1):
        return ", ".join(f"{name} {count / per:.4g}" for name, count in self.calls.most_common(8))


KINDS = {"read": (zk.GET, zk.path_body("/w")), "write": (zk.SET, zk.set_body("/w", b"x" * 100))}


def lone(server, kind):
    """Calls and wake-ups of one request, of many one after another."""
    one = client(server)
    op, body = KINDS[kind]
    for _ in range(20):
        one.call(op, body)
    before = switches(server)
    for _ in range(LONE):
        one.call(op, body)
    wakes = (switches(server) - before) / LONE
    with Counted(server) as counted:
        for _ in range(LONE):
            one.call(op, body)
    one.close()
    return counted.total / LONE, counted.shown(LONE), wakes


def pipelined(server, kind):
    """Calls of so many requests that lie in the socket together."""
    flow = Flow(client(server).sock)
    op, body = KINDS[kind]
    due = flow.frames + MANY
    with Counted(server) as counted:
        flow.send(zk.request(1, op, body) * MANY)
        Loop(flow).until(lambda: has(due)(flow), "requests are not answered")
    check(not flow.closed, "the connection was closed")
    flow.sock.close()
    return counted.total, counted.shown()


def held(bounds, where, what, value, shown):
    bound = bounds[where, what]
    return "" if value <= bound else f"{what}: {value:.4g}, at most {bound} ({shown})"


@holds("calls")
def lone_and_pipelined_requests_cost_few_system_calls_and_wake_ups(place: Place):
    with place.server() as server:
        where = "shards" if place.shards else "inline"
        maker = client(server)
        check(maker.call(zk.CREATE, zk.create_body("/w", b""))[1] == 0, "a node is made")
        maker.close()
        disk_is_measured(server)
        faults, figures = [], []
        for kind in KINDS:
            calls, shown, wakes = lone(server, kind)
            figures.append(f"lone {kind} {calls:.1f} calls, {wakes:.1f} wake-ups")
            faults += [held(CALLS, where, f"lone {kind}", calls, f"calls each: {shown}"),
                       held(WAKES, where, f"lone {kind}", wakes, "wake-ups each")]
            calls, shown = pipelined(server, kind)
            figures.append(f"1,000 {kind}s {calls} calls")
            faults.append(held(CALLS, where, f"1,000 {kind}s", calls, shown))
        faults = [fault for fault in faults if fault]
        check(not faults, "; ".join(faults))
        return ", ".join(figures)
