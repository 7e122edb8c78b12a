"""Progress that survives an interruption, and evidence.

A run keeps its counts in tests/.work after each group of programs, under its commit, seed, size and placement; started again it goes
on behind them. One of the size that the issue asks for appends a line to tests/evidence.jsonl when it is complete and
nothing is unexplained."""

import json
import subprocess
import time

from servers import REPO

WORK = REPO / "tests" / ".work"
# Programs from which on a run is kept and becomes evidence.
EVIDENCE = 1500


class Progress:
    def __init__(self, programs, seed, shards, is_kept=True):
        self.programs, self.seed, self.shards = programs, seed, shards
        self.is_kept = is_kept and programs >= EVIDENCE
        self.commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=REPO, capture_output=True, text=True, check=False).stdout.strip()
        self.file = WORK / f"differential-{self.commit}-{seed}-{programs}-{shards}.json"
        self.state = {"done": 0, "operations": 0, "steps": 0, "seconds": 0.0, "rows": {}, "coverage": {}, "red": [], "told": False}
        if self.is_kept and self.file.exists():
            self.state = json.loads(self.file.read_text())

    def keep(self):
        if self.is_kept:
            WORK.mkdir(parents=True, exist_ok=True)
            fresh = self.file.with_suffix(".tmp")
            fresh.write_text(json.dumps(self.state))
            fresh.rename(self.file)

    def complete(self, coverage):
        """Appends the evidence, once. `coverage`: what was reached, as the evidence keeps it."""
        if not self.is_kept or self.state["told"] or self.state["red"]:
            return
        counts = {"programs": self.state["done"], "operations": self.state["operations"], "shards": self.shards, "unexplained": 0,
                  "explained": self.state["rows"], "coverage": coverage}
        line = {"section": "differential", "commit": self.commit,
                "command": f"tests/differential/run --programs {self.programs} --seed {self.seed} --shards {self.shards}",
                "counts": counts, "duration_s": round(self.state["seconds"]), "date": time.strftime("%Y-%m-%d")}
        with open(REPO / "tests" / "evidence.jsonl", "a") as file:
            file.write(json.dumps(line) + "\n")
        self.state["told"] = True
        self.keep()
