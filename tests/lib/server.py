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
# The server's exit code for a port that somebody else has.
PORT_IN_USE = 20
# Ports that a first start tries.
PORTS = 5


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


def listens(pid, port):
    """Whether this process listens on the port, and not a stranger that has taken it since it was free."""
    held = set()
    for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        try:
            held.add(os.readlink(fd))
        except FileNotFoundError:
            continue
    for family in ("tcp", "tcp6"):
        for line in pathlib.Path(f"/proc/net/{family}").read_text().splitlines()[1:]:
            fields = line.split()
            listening = fields[3] == "0A" and int(fields[1].rsplit(":", 1)[1], 16) == port
            if listening and f"socket:[{fields[9]}]" in held:
                return True
    return False


def four_letter(port, word, timeout=10):
    with socket.create_connection(("127.0.0.1", port), timeout) as s:
        s.sendall(word.encode())
        answer = b""
        while True:
            more = s.recv(65536)
            if not more:
                return answer.decode()
            answer += more


def numbers(path):
    """Figures of a file in /proc: the first integer behind each name."""
    with open(path) as file:
        pairs = (line.split(":", 1) for line in file if ":" in line)
        return {name: int(rest.split()[0]) for name, rest in pairs if rest.split() and rest.split()[0].isdigit()}


class Server:
    """One server on a data directory that outlives its processes.

    `properties` are passed as `-Dname=value`, `open_files` is the limit of the process, `parent` the
    directory in which the data directory is made; everything else goes into zoo.cfg."""

    def __init__(self, *, properties=None, open_files=None, parent=None, **options):
        self.port = free_port()
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="ringkeeper-test-", dir=parent))
        self.data = self.root / "data"
        self.log = self.root / "stderr"
        self.process = None
        self.properties = dict(properties or {})
        self.open_files = open_files
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
        first = self.process is None
        self.spawn()
        for _ in range(PORTS - 1):
            # Another test's server was faster: as long as nobody knows the port, another one does too.
            if not first or not self.ended_for_want_of_its_port():
                break
            self.port = free_port()
            self.spawn()
        self.wait_until_serving()
        return self

    def ended_for_want_of_its_port(self):
        """Waits until the process serves or has ended."""
        try:
            self.wait_until_serving()
        except RuntimeError:
            return self.process.poll() == PORT_IN_USE
        return False

    def spawn(self):
        config = self.root / "zoo.cfg"
        lines = {"dataDir": self.data, "clientPort": self.port, "clientPortAddress": "127.0.0.1", **self.options}
        config.write_text("".join(f"{k}={v}\n" for k, v in lines.items()))
        command = [BINARY, *(f"-D{name}={value}" for name, value in self.properties.items()), str(config)]
        if self.open_files:
            command = ["prlimit", f"--nofile={self.open_files}:{self.open_files}", *command]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def wait_until_serving(self):
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            if self.process.poll() is not None:
                break
            try:
                if "Mode: standalone" in four_letter(self.port, "srvr") and listens(self.process.pid, self.port):
                    return
            except OSError:
                pass
            time.sleep(0.005)
        raise RuntimeError(f"the server does not serve (exit code {self.process.poll()}):\n{self.log.read_text()[-3000:]}")

    def ended(self):
        """Why the process is gone; `None` while it runs."""
        code = self.process.poll()
        if code is None:
            return None
        said = self.log.read_text().splitlines()
        fault = next((n for n, line in enumerate(said) if "panicked" in line), max(0, len(said) - 1))
        return f"the server has ended with {code}: {' '.join(line.strip() for line in said[fault:fault + 2])}"

    def figures(self):
        """`mntr`, without the prefix; values that are integers as such."""
        pairs = (line.removeprefix("zk_").split("\t") for line in four_letter(self.port, "mntr").splitlines())
        return {name: int(value) if value.lstrip("-").isdigit() else value for name, value in pairs}

    def spares(self):
        """Segments of the log that are made ahead."""
        return len(list((pathlib.Path(self.data) / "ringkeeper-1").glob("spare.*")))

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def tasks(self):
        """Threads, as the kernel's id: name. Without the kernel's own workers, which come and go."""
        names = {}
        for task in pathlib.Path(f"/proc/{self.process.pid}/task").iterdir():
            try:
                names[int(task.name)] = (task / "comm").read_text().strip()
            except FileNotFoundError:
                continue
        return {task: name for task, name in names.items() if not name.startswith("iou-")}

    def memory(self, what="RssAnon"):
        """Bytes: RssAnon without mapped files, VmRSS with them, VmHWM the most there ever was."""
        return numbers(f"/proc/{self.process.pid}/status")[what] << 10

    def pause(self):
        """Every thread stops; what clients send lies in the kernel."""
        self.process.send_signal(signal.SIGSTOP)
        status = pathlib.Path(f"/proc/{self.process.pid}/status")
        while "State:\tT" not in status.read_text():
            time.sleep(0.001)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

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
