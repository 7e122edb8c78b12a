"""Starts and stops the members of an ensemble, each a real process on this machine."""

import random
import time

from server import BINARY, PATIENCE_S, Server, four_letter, free_port  # noqa: F401

# With ticks of 200 ms a silent leader is given up after a second.
OPTIONS = {"tickTime": 200, "initLimit": 50, "syncLimit": 5, "minSessionTimeout": 200, "snapCount": 2000, "preAllocSize": 4160}


class Member(Server):
    """One of them."""

    def __init__(self, number, **options):
        super().__init__(**options)
        self.number = number
        self.quorum, self.election = free_port(), free_port()

    def begin(self, lines):
        """Starts the process, and waits for nobody."""
        self.options.update(lines)
        self.data.mkdir(parents=True, exist_ok=True)
        (self.data / "myid").write_text(f"{self.number}\n")
        self.spawn()

    def mode(self):
        """As what it serves; `None`: it serves nobody."""
        if self.process is None or self.process.poll() is not None:
            return None
        try:
            text = four_letter(self.port, "srvr", 2)
        except OSError:
            return None
        lines = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
        return lines.get("Mode")

    def is_up(self):
        return self.process is not None and self.process.poll() is None


class Ensemble:
    """Members from 1 on; `port` is where clients connect: at the leader, or each at a random member."""

    def __init__(self, members=3, at_leader=False, **options):
        self.at_leader = at_leader
        self.members = [Member(n, **{**OPTIONS, **options}) for n in range(1, members + 1)]
        ports = [port for one in self.members for port in (one.port, one.quorum, one.election)]
        assert len(set(ports)) == len(ports), "a port was free twice"

    def lines(self):
        return {f"server.{one.number}": f"127.0.0.1:{one.quorum}:{one.election}" for one in self.members}

    def start(self):
        """Everybody who does not run, and waits until one leads and all others follow."""
        for one in self.members:
            if not one.is_up():
                one.begin(self.lines())
        return self.wait_until_all_serve()

    def wait_until_all_serve(self, members=None):
        """How long that took, s."""
        began = time.monotonic()
        members = members or [one for one in self.members if one.is_up()]
        while True:
            modes = [one.mode() for one in members]
            if sorted(modes, key=str) == ["follower"] * (len(members) - 1) + ["leader"]:
                return time.monotonic() - began
            for one in members:
                if one.ended():
                    raise RuntimeError(f"member {one.number}: {one.ended()}\n{one.log.read_text()[-3000:]}")
            if time.monotonic() > began + PATIENCE_S:
                logs = "\n".join(f"--- {one.number}\n{one.log.read_text()[-2000:]}" for one in members)
                raise RuntimeError(f"nobody leads whom all follow: {modes}\n{logs}")
            time.sleep(0.01)

    def leader(self):
        return next((one for one in self.members if one.mode() == "leader"), None)

    def followers(self):
        return [one for one in self.members if one.mode() == "follower"]

    @property
    def port(self):
        if self.at_leader:
            return self.leader().port
        return random.choice([one for one in self.members if one.mode() in ("leader", "follower")]).port

    def wait_until_level(self, seconds=PATIENCE_S):
        """Until all have applied the same, what clients do being at rest; False if they never have."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if len({four_letter(one.port, "srvr").split("Zxid: ")[1].split()[0] for one in self.members}) == 1:
                return True
            time.sleep(0.02)
        return False

    def close(self):
        for one in self.members:
            one.close()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.close()
