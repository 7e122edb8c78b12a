"""Apache's own shell, zkCli, driven through scripts whose expected answers were given by Apache's own server.

A script (zkcli/*.txt) has lines of these kinds:

    # TEXT            a comment
    NAME=VALUE        a line of the server's zoo.cfg; before all that follows
    +                 the shell starts
    > COMMAND         a command, typed; {server} stands for host and port
      TEXT            what was printed, behind two spaces
    ~ TEXT            an event of a watch
    !                 the server is killed, and started again

`2+`, `2>` and `2~` are those of a second shell. Times, the ids of sessions and the port are replaced, blank lines left
out, lists without an order sorted. An event may be printed before or behind what its command prints, so events stand
behind it, in their own order. Between two commands stands one that only answers with MARK, which history shows.
"""

import pathlib
import queue
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "differential"))

from servers import APACHE_HOME, fetched  # noqa: E402

JVM = ["java", "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", f"-Dlogback.configurationFile={HERE / 'java' / 'logback.xml'}"]
MAIN = "org.apache.zookeeper.ZooKeeperMain"
SESSION_MS, PATIENCE_S = 30000, 60
# Seconds to wait for events when answers are written down; the longer time where something ends by itself, or comes back.
QUIET_S, SLOW_S = 0.3, 4
SLOW = re.compile(r"create -t \d{1,4} |delete /c/|addauth none")
# A command that asks nobody, changes nothing, and says so.
MARKING, MARK = "redo -1", "Command index out of range"
# Shells that run at the same time.
JOBS = 2
# Commands that print lines, or one list, in no order of their own.
UNORDERED = ("whoami", "ls -R", "getEphemerals")
STEP = re.compile(r"(2?)([+>!~])(?: (.*))?$")


class Shell:
    """One shell: what it prints comes in lines, events apart."""

    def __init__(self, port):
        self.port = port
        self.process = subprocess.Popen([*JVM, "-cp", f"{APACHE_HOME}/*", MAIN, "-waitforconnection", "-timeout", str(SESSION_MS), "-server",
                                         f"127.0.0.1:{port}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.lines, self.events = queue.Queue(), queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            line = self.known(line.rstrip())
            if line.startswith("WatchedEvent "):
                self.events.put(line)
            elif line and line != "WATCHER::":
                self.lines.put(line)
        self.lines.put(None)

    def known(self, line):
        """The line with what differs from run to run replaced."""
        line = re.sub(r"^([cm]time) = .*", r"\1 = TIME", line.replace(f"127.0.0.1:{self.port}", "{server}"))
        return re.sub(r"^(ephemeralOwner) = 0x(?!0$).*", r"\1 = SESSION", line)

    def type(self, command):
        """What is printed for a command; for none, from the start on."""
        if command:
            self.process.stdin.write(command.replace("{server}", f"127.0.0.1:{self.port}") + "\n")
        if command != "quit":
            self.process.stdin.write(MARKING + "\n")
        self.process.stdin.flush()
        said = []
        while (line := self.lines.get(timeout=PATIENCE_S)) not in (None, MARK):
            said.append(line)
        if line is None and command != "quit":
            raise AssertionError(f"the shell has ended: {said}")
        if command and command.startswith(UNORDERED):
            said = sorted(re.sub(r"^\[(.*)\]$", lambda found: f"[{', '.join(sorted(found.group(1).split(', ')))}]", line) for line in said)
        return said

    def take_events(self, count):
        """So many events, and those that have come beside."""
        taken = []
        try:
            while len(taken) < count:
                taken.append(self.events.get(timeout=PATIENCE_S))
        except queue.Empty:
            pass
        while not self.events.empty():
            taken.append(self.events.get())
        return taken

    def close(self):
        self.process.kill()
        self.process.wait()


class Step:
    """A line of a script that does something, with what is expected of it."""

    def __init__(self, shell, kind, command):
        self.shell, self.kind, self.command = shell, kind, command
        self.said, self.events = [], {"": [], "2": []}

    def in_order(self, events):
        """The events as they are compared: two sessions' events have no order between each other.

        `connect` ends a session and begins one; Apache's client tells each in a thread of its own, and was seen to do so in both orders."""
        return sorted(events) if self.command and self.command.split()[0] == "connect" else events

    def text(self):
        lines = [f"{self.shell}{self.kind}{' ' + self.command if self.command else ''}", *(f"  {line}" for line in self.said)]
        return lines + [f"{shell}~ {event}" for shell, events in self.events.items() for event in events]


class Script:
    def __init__(self, path):
        self.path, self.options, self.parts = path, {}, []
        for line in path.read_text().splitlines():
            if line.startswith("#") or not line:
                self.parts.append(line)
            elif line.startswith("  "):
                self.parts[-1].said.append(line[2:])
            elif step := STEP.match(line):
                shell, kind, rest = step.groups()
                if kind == "~":
                    self.parts[-1].events[shell].append(rest)
                else:
                    self.parts.append(Step(shell, kind, rest))
            else:
                name, value = line.split("=", 1)
                self.options[name] = value
                self.parts.append(line)

    def steps(self):
        return [part for part in self.parts if isinstance(part, Step)]

    def run(self, make, record=False):
        """Types all of it at shells of a server of its own; how many commands there were."""
        shells = {}
        with make(**self.options) as server:
            try:
                for step in self.steps():
                    said = self.step(server, shells, step)
                    # Whether it hears that its session is closed is a race with its end.
                    if step.command == "quit":
                        shells.pop(step.shell).close()
                    if record:
                        time.sleep(SLOW_S if step.kind == "!" or SLOW.match(step.command or "") else QUIET_S)
                        step.said, step.events = said, {"": [], "2": []}
                        step.events.update((name, shell.take_events(0)) for name, shell in shells.items())
                        continue
                    events = {name: shell.take_events(len(step.events[name])) for name, shell in shells.items()}
                    assert said == step.said, self.difference(step, step.said, said)
                    for name, came in events.items():
                        assert step.in_order(came) == step.in_order(step.events[name]), self.difference(step, step.events[name], came)
                late = {name: shell.take_events(0) for name, shell in shells.items()}
                assert not any(late.values()), f"{self.path.name}: events that nobody expected: {late}"
            finally:
                for shell in shells.values():
                    shell.close()
        return sum(step.kind == ">" for step in self.steps())

    @staticmethod
    def step(server, shells, step):
        if step.kind == "!":
            server.kill9()
            server.start()
            return []
        if step.kind == "+":
            shells[step.shell] = Shell(server.port)
        return shells[step.shell].type(step.command)

    def difference(self, step, due, came):
        return "\n".join([f"{self.path.name}: {step.text()[0]}", "Apache's server:", *(f"  {line}" for line in due), "this one:", *(f"  {line}" for line in came)])

    def write(self):
        lines = (line for part in self.parts for line in ([part] if isinstance(part, str) else part.text()))
        self.path.write_text("".join(f"{line}\n" for line in lines))


class Scripts:
    """All scripts, against servers that `make` makes."""

    def __init__(self, make):
        self.make = make
        self.all = [Script(path) for path in sorted((HERE / "zkcli").glob("*.txt"))]

    def check(self):
        """How many scripts and commands were answered as Apache's server does."""
        fetched()
        with ThreadPoolExecutor(JOBS) as pool:
            commands = list(pool.map(lambda script: script.run(self.make), self.all))
        return len(commands), sum(commands)

    def record(self, names):
        """Writes down what is answered; of all scripts, or of those named."""
        fetched()
        for script in self.all:
            if names and script.path.stem not in names:
                continue
            began = time.monotonic()
            print(f"{script.path.name}: {script.run(self.make, record=True)} commands, {time.monotonic() - began:.0f} s", flush=True)
            script.write()
