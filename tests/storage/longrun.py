"""What the long runs of this section share: progress that survives an interruption, evidence, and an orderly end.

A run keeps its counts in tests/.work after each step, under its commit, seed and size; started again, it goes on
behind the last step. A run of the size that the issue asks for appends a line to tests/evidence.jsonl when it is
complete and nothing was broken."""

import json
import pathlib
import signal
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "lib"), str(HERE.parent / "kill")]

from server import REPO  # noqa: E402

WORK = REPO / "tests" / ".work"


class Broken(Exception):
    """A promise that was not kept; the text says which."""


def check(condition, why):
    if not condition:
        raise Broken(why)


class Run:
    """Counts of a run of `n` steps. `at_least`: the size from which on it is kept and becomes evidence."""

    def __init__(self, name, n, seed, at_least):
        self.name, self.n, self.seed = name, n, seed
        self.is_evidence = n >= at_least
        self.commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=REPO, capture_output=True, text=True, check=False).stdout.strip()
        self.file = WORK / f"storage-{name}-{self.commit}-{seed}-{n}.json"
        self.state = {"done": 0, "seconds": 0.0, "counts": {}, "kept": {}}
        if self.is_evidence and self.file.exists():
            self.state = json.loads(self.file.read_text())
            print(f"{name}: goes on behind step {self.done} of {n}", file=sys.stderr, flush=True)
        self.at = time.monotonic()

    @property
    def done(self):
        return self.state["done"]

    @property
    def counts(self):
        return self.state["counts"]

    @property
    def kept(self):
        """What a later step needs of earlier ones: anything that JSON holds."""
        return self.state["kept"]

    def count(self, name, by=1):
        self.counts[name] = self.counts.get(name, 0) + by

    def step(self, said=""):
        """A step is complete."""
        now = time.monotonic()
        self.state["seconds"] += now - self.at
        self.at = now
        self.state["done"] += 1
        if self.is_evidence:
            WORK.mkdir(parents=True, exist_ok=True)
            fresh = self.file.with_suffix(".tmp")
            fresh.write_text(json.dumps(self.state))
            fresh.rename(self.file)
        if said or self.done % 10 == 0 or self.done == self.n:
            left = self.state["seconds"] / self.done * (self.n - self.done)
            print(f"{self.name}: {self.done} of {self.n}, about {left / 60:.0f} min left {said}".rstrip(), file=sys.stderr, flush=True)

    def complete(self, **more):
        """The counts, as evidence if the run is large enough."""
        counts = {self.name: self.done, **self.counts, **more}
        if self.is_evidence and not self.kept.get("told"):
            line = {"section": "storage", "commit": self.commit, "command": f"tests/storage/{self.command()}", "counts": counts,
                    "duration_s": round(self.state["seconds"]), "date": time.strftime("%Y-%m-%d")}
            with open(REPO / "tests" / "evidence.jsonl", "a") as file:
                file.write(json.dumps(line) + "\n")
            self.kept["told"] = True
            self.file.write_text(json.dumps(self.state))
        return counts

    def command(self):
        return f"{pathlib.Path(sys.argv[0]).name} --{self.name} {self.n} --seed {self.seed}"


def ends_in_order():
    """SIGTERM and SIGHUP unwind the stack, so that every context manager has its turn."""
    def end(number, _):
        raise SystemExit(128 + number)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)


def told(figures):
    """Counts in a line."""
    return ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in figures.items())
