"""Starts and stops the server under test."""

import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time

REPO = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("RK_SERVER", str(REPO / "target" / "release" / "ringkeeper"))
# The placement of every server that the tests start: 0 = inline.
SHARDS = os.environ.get("RK_SHARDS", "0")
PATIENCE_S = 60


def free_port():
    """A port below the ephemeral range: a client that dials a closed ephemeral port on loopback can
    connect to itself, and then holds the port that the restarted server needs."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


def four_letter(port, word, timeout=10):
    with socket.create_connection(("127.0.0.1", port), timeout) as s:
        s.sendall(word.encode())
        answer = b""
        while True:
            more = s.recv(65536)
            if not more:
                return answer.decode()
            answer += more


class Server:
    """One server on a data directory that outlives its processes."""

    def __init__(self, **options):
        self.port = free_port()
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="ringkeeper-test-"))
        self.data = self.root / "data"
        self.log = self.root / "stderr"
        self.process = None
        self.options = {
            "tickTime": 500,
            "minSessionTimeout": 500,
            "maxSessionTimeout": 60000,
            "maxClientCnxns": 0,
            "4lw.commands.whitelist": "*",
            "preAllocSize": 8192,
            "shards": SHARDS,
            **options,
        }

    def start(self):
        config = self.root / "zoo.cfg"
        lines = {"dataDir": self.data, "clientPort": self.port, "clientPortAddress": "127.0.0.1", **self.options}
        config.write_text("".join(f"{k}={v}\n" for k, v in lines.items()))
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([BINARY, str(config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.wait_until_serving()
        return self

    def wait_until_serving(self):
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            if self.process.poll() is not None:
                break
            try:
                if "Mode: standalone" in four_letter(self.port, "srvr"):
                    return
            except OSError:
                time.sleep(0.005)
        raise RuntimeError(f"the server does not serve (exit code {self.process.poll()}):\n{self.log.read_text()[-3000:]}")

    def stop(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"it has ended with {self.process.returncode}:\n{self.log.read_text()[-3000:]}")
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(PATIENCE_S)
        if code != 0:
            raise RuntimeError(f"exit code {code} after SIGTERM:\n{self.log.read_text()[-3000:]}")

    def kill9(self):
        self.process.kill()
        self.process.wait(PATIENCE_S)

    def restart(self):
        self.stop()
        self.start()

    def wipe(self):
        shutil.rmtree(self.data, ignore_errors=True)

    def close(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.root, ignore_errors=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.close()
