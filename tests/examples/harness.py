"""Runs examples as the programs that they are, and takes the network, the processor or the life from them."""

import contextlib
import os
import pathlib
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "lib")]

from kazoo.client import KazooClient  # noqa: E402
from proxy import Proxy  # noqa: E402
from server import four_letter  # noqa: E402

PATIENCE_S = 30
# Timeouts of sessions that must not expire while the machine is busy, and of those that are to expire.
LASTING_S, SHORT_S = 30, 2
# Types of requests (docs/protocol.md), and the flag of a sequential create.
CREATE, MULTI, SEQUENTIAL = 1, 14, 2


def until(condition, what):
    """Waits until the condition holds, and returns its value."""
    end = time.monotonic() + PATIENCE_S
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"waited {PATIENCE_S} s for {what}")
        time.sleep(0.01)
    return value


class Transcript:
    """What programs print, in one file that all append to: if one line is the cause of another, it comes first."""

    def __init__(self, path):
        self.path = path
        self.file = open(path, "ab")

    def lines(self):
        return self.path.read_text().splitlines()

    def find(self, pattern):
        return [match for line in self.lines() if (match := re.fullmatch(pattern, line))]

    def wait(self, pattern, count=1):
        """The first `count` lines that match, as soon as they are there; of one its groups, if it has any."""
        found = until(lambda: len(found := self.find(pattern)) >= count and found, f"{count} × {pattern}")
        return found[:count] if count > 1 else found[0]

    def place(self, pattern):
        """Numbers of the lines that match."""
        return [n for n, line in enumerate(self.lines()) if re.fullmatch(pattern, line)]


class Program:
    """An example that runs as a process."""

    def __init__(self, example, transcript, port, timeout, arguments):
        command = [sys.executable, HERE / f"{example}.py", "--hosts", f"127.0.0.1:{port}", "--timeout", timeout, *arguments]
        self.process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=transcript.file,
                                        stderr=transcript.file)

    def stop(self):
        """The process sleeps from now on, in the middle of whatever it does."""
        self.process.send_signal(signal.SIGSTOP)
        status = pathlib.Path(f"/proc/{self.process.pid}/status")
        until(lambda: "State:\tT" in status.read_text(), "the process to stop")

    def wake(self):
        self.process.send_signal(signal.SIGCONT)

    def kill9(self):
        self.process.kill()
        self.process.wait(PATIENCE_S)

    def ends(self):
        """Waits for the end of a program that ends by itself."""
        code = self.process.wait(PATIENCE_S)
        assert code == 0, f"exit code {code}"

    def end(self):
        """Ends it as an operator does."""
        self.process.terminate()
        self.ends()


class Network(Proxy):
    """The network between one client and the server. With the requests that `lose` picks it breaks the connection, `times`
    times: in turn instead of the request, and instead of its answer, the latter last. The client hears ConnectionLoss
    for either; the server has executed only the second."""

    def __init__(self, port, lose, times):
        self.lose, self.left = lose, times
        # Of the newest connection: its session, and the xids of requests whose answers will be lost.
        self.session, self.awaited = None, set()
        super().__init__(port)

    def relay(self, source, sink):
        try:
            from_server = source.getpeername()[1] == self.target
            for n, frame in enumerate(self.frames(source)):
                if n == 0 and from_server:
                    self.session = struct.unpack_from(">Q", frame, 12)[0]
                    self.awaited.clear()
                elif n and (self.loses_answer(frame) if from_server else self.loses_request(frame)):
                    self.left -= 1
                    break
                sink.sendall(frame)
        except OSError:
            pass
        for side in (source, sink):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def frames(source):
        rest = b""
        while data := source.recv(65536):
            rest += data
            while len(rest) >= 4 and len(rest) >= (end := 4 + int.from_bytes(rest[:4], "big")):
                yield rest[:end]
                rest = rest[end:]

    def loses_request(self, frame):
        xid, kind = struct.unpack_from(">ii", frame, 4)
        if not self.left or not self.lose(kind, frame):
            return False
        if self.left % 2 == 0:
            return True
        self.awaited.add(xid)
        return False

    def loses_answer(self, frame):
        return struct.unpack_from(">i", frame, 4)[0] in self.awaited


def sequential_create(kind, frame):
    return kind == CREATE and frame[-1] & SEQUENTIAL


def transaction(kind, frame):
    return kind == MULTI


class World:
    """One check's own: a root, transcripts, programs, clients, proxies; all of it ends with the check."""

    def __init__(self, server, name):
        self.server, self.root = server, f"/{name}"
        self.scratch = contextlib.ExitStack()
        self.directory = pathlib.Path(self.scratch.enter_context(tempfile.TemporaryDirectory(prefix="ringkeeper-example-")))
        self.transcripts = {}

    def transcript(self, name="all"):
        if name not in self.transcripts:
            self.transcripts[name] = Transcript(self.directory / f"{name}.txt")
            self.scratch.callback(self.transcripts[name].file.close)
        return self.transcripts[name]

    def start(self, example, *arguments, root="", timeout=LASTING_S, network=None, into="all"):
        """Starts a program below a root of the check's; what it prints goes into the transcript of that name."""
        port = network.port if network else self.server.port
        program = Program(example, self.transcript(into), port, timeout, ["--root", self.root + root, *arguments])

        def kill():
            program.process.kill()
            program.process.wait()

        self.scratch.callback(kill)
        return program

    def client(self):
        client = KazooClient(f"127.0.0.1:{self.server.port}", timeout=LASTING_S)
        client.start(timeout=PATIENCE_S)
        self.scratch.callback(client.close)
        self.scratch.callback(client.stop)
        return client

    def network(self, lose=lambda kind, frame: False, times=0):
        network = Network(self.server.port, lose, times)
        self.scratch.callback(network.close)
        return network

    def expired(self, network):
        """Waits until the session of the client behind it is gone from the server."""
        session = f"{network.session:x}"
        until(lambda: session not in four_letter(self.server.port, "dump"), f"session {session} to expire")

    def said(self):
        return "".join(f"--- {name}\n{transcript.path.read_text()}" for name, transcript in self.transcripts.items())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.scratch.close()
