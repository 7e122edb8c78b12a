"""What the server asks of the kernel, read with strace: how many calls, and in which order.

The order in which one thread sends to its clients is the server's own decision. When a client's program
gets the processor, and sees what was sent, shows nothing of it."""

import collections
import dataclasses
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile

from harness import HEADER_REPLY, PATIENCE_S, check, finish, pinged, standing_still, until_answered, wait_until

# Calls that look into the file system; a thread that makes one waits for the disk.
FILE_CALLS = ("openat", "getdents64", "newfstatat", "statx")
SENDS = ("sendto", "sendmsg")
RECEIVES = ("recvfrom", "recvmsg")
# Calls that are made once for each new connection.
GREETINGS = ("accept", "accept4", "setsockopt", *RECEIVES)
# The call with which a data core looks at completions, timers and other cores.
LOOK = "io_uring_enter"
# `7 sendto(12, ""..., 20, MSG_NOSIGNAL, NULL, 0) = 20`, or in two lines: `… <unfinished ...>`, then
# `7 <... sendto resumed>) = 20`. strace that is told to stop while a call is under way writes `… <detached ...>`.
CALL = re.compile(r"^(?P<thread>\d+) +(?:(?P<name>\w+)\((?P<fd>\d+)?|<\.\.\. (?P<resumed>\w+) resumed>).*?(?:= (?P<result>-?\d+).*|<unfinished \.\.\.>| <detached \.\.\.>)$")


class Strace:
    """Every thread of a server under strace from here to the end of the block; then `text` is what strace has
    written. The server may stand still when it begins."""

    def __init__(self, server, *options):
        check(shutil.which("strace"), "strace is missing: install the package strace")
        self.text = ""
        self.file = tempfile.NamedTemporaryFile("r", prefix="ringkeeper-calls-")
        self.process = subprocess.Popen(["strace", "-f", "-qq", *options, "-o", self.file.name, "-p", str(server.process.pid)],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        tasks = set(pathlib.Path(f"/proc/{server.process.pid}/task").iterdir())
        traced = lambda: all("TracerPid:\t0" not in (task / "status").read_text() for task in tasks if task.exists())  # noqa: E731
        wait_until(lambda: self.process.poll() is not None or traced(), "strace does not attach")
        check(self.process.poll() is None, f"strace ended: {self.process.stderr.read() if self.process.poll() is not None else ''}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(PATIENCE_S)
        self.process.stderr.close()
        self.text = self.file.read()
        self.file.close()


def every_call(server):
    """strace of what `calls_in` reads."""
    return Strace(server, "-s", "0", "-e", f"trace={','.join((*SENDS, *FILE_CALLS, *GREETINGS, LOOK))}", "-e", "signal=none")


@dataclasses.dataclass
class Call:
    """A system call: the thread, the first argument if that is a number, the result (-1: an error; `None`: strace
    was told to stop before the call returned)."""
    thread: int
    name: str
    fd: int
    result: int | None

    def sent(self):
        """Whether it sent something. Who receives an answer may stop strace before the `send` of it returns, so one
        without a result has sent as well."""
        return self.name in SENDS and self.result not in (-1, 0)


def calls_in(text):
    """The calls in strace's text, in the order in which each thread made them; then the sends whose end strace did
    not see."""
    begun, calls = {}, []
    for line in text.splitlines():
        found = CALL.match(line)
        if not found:
            continue
        thread = int(found["thread"])
        if found["name"]:
            begun[thread] = Call(thread, found["name"], int(found["fd"] or -1), None)
        if found["result"] and thread in begun:
            call = begun.pop(thread)
            call.result = int(found["result"])
            calls.append(call)
    return calls + [call for call in begun.values() if call.sent()]


def descriptors(server, flows):
    """The server's descriptor of each connection."""
    inodes = {}
    for row in pathlib.Path(f"/proc/{server.process.pid}/net/tcp").read_text().splitlines()[1:]:
        fields = row.split()
        (local, remote) = (int(end.split(":")[1], 16) for end in fields[1:3])
        if local == server.port:
            inodes[remote] = fields[9]
    directory = pathlib.Path(f"/proc/{server.process.pid}/fd")
    held = {os.readlink(entry): int(entry.name) for entry in directory.iterdir()}
    return {flow: held[f"socket:[{inodes[flow.sock.getsockname()[1]]}]"] for flow in flows}


@dataclasses.dataclass
class Served:
    """What the server's threads did. `crowd`: replies that a thread sent to a crowd before it answered the last of
    the witnesses that it serves; the most of all threads. `blocking`: calls into the file system of threads that
    serve a witness. `greeted`: connections that a thread took or read from between two looks at everything else;
    the most of all threads."""
    crowd: int
    blocking: int
    greeted: int


def served_before(server, crowd, witnesses, reply=HEADER_REPLY, until=None):
    """[`Served`], counted from the server's own calls. `crowd` sends what it has to say, while the server stands
    still, and gives its flows; then the witnesses send a ping each, and the server goes on. A reply to the crowd
    has `reply` bytes; `None`: whatever is sent on one descriptor is one. The calls are read until the witnesses
    are answered and `until` is true of each flow of the crowd."""
    fds = descriptors(server, witnesses)
    with standing_still(server):
        flows = crowd()
        due = pinged(witnesses)
        trace = every_call(server)
    with trace:
        until_answered(server, due, flows)
        if until:
            finish(server, flows, until, "the crowd is never answered")
    return judged(calls_in(trace.text), set(fds.values()), reply)


def judged(calls, witnesses, reply):
    """[`Served`] from the calls, for witnesses on these descriptors."""
    sent, before, answered = collections.defaultdict(collections.Counter), {}, set()
    for call in calls:
        if call.sent() and call.fd in witnesses:
            answered.add(call.fd)
            before[call.thread] = sent[call.thread].total() // reply if reply else len(sent[call.thread])
        elif call.sent():
            sent[call.thread][call.fd] += call.result or 0
    check(answered == witnesses, f"strace shows the answers to {len(answered)} of {len(witnesses)} who ping")
    blocking = sum(call.name in FILE_CALLS and call.thread in before for call in calls)
    return Served(max(before.values()), blocking, greeted_at_once(calls))


def taken_at_once(calls):
    """The most bytes that one thread received on one descriptor between two looks."""
    taken, most = collections.defaultdict(collections.Counter), 0
    for call in calls:
        if call.name == LOOK:
            taken[call.thread].clear()
        elif call.name in RECEIVES and call.result > 0:
            taken[call.thread][call.fd] += call.result
            most = max(most, taken[call.thread][call.fd])
    return most


def looks_until_answered(calls, fd):
    """How often a thread looked at everything else between the last bytes that the server received on a descriptor
    and the first that it sent there; the most of all threads."""
    looks, seen = collections.Counter(), 0
    for call in calls:
        if call.fd == fd and call.name in RECEIVES and call.result > 0:
            looks.clear()
        elif call.fd == fd and call.sent():
            seen = max(seen, *looks.values(), 0)
            looks.clear()
        elif call.name == LOOK:
            looks[call.thread] += 1
    return seen


def greeted_at_once(calls):
    """The most calls of one kind in GREETINGS that one thread made between two looks."""
    made, most = collections.defaultdict(collections.Counter), 0
    for call in calls:
        if call.name == LOOK:
            made[call.thread].clear()
        elif call.name in GREETINGS:
            made[call.thread][call.name] += 1
            most = max(most, made[call.thread][call.name])
    return most
