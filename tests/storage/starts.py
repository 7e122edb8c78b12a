#!/usr/bin/env python3
"""kill -9 while the server starts and while it makes a snapshot, and restarts in a row.

    tests/storage/starts.py --kills 100 [--seed S]       so many of each
    tests/storage/starts.py --restarts 200 [--seed S]
    tests/storage/starts.py --clean                      ends what a run that was killed has left

A kill counts if it came in time: before the server answered, or with a temporary snapshot on the disk. After each
the history of eight clients is checked (tests/kill/checker.py), and the state besides them is all there.

Restarts end the server by SIGTERM or kill -9, at random. What is looked at after each, at rest: bytes of the
directory, its segments and snapshots, descriptors. What there is at most in the second half is what there was at
most in the first: four segments and a tenth of the bytes more, no descriptor. Snapshots and what they make unneeded
come and go with a period of some 27 restarts, so fewer than 120 are not judged. How long starts took is told, and not
judged: it stands beside what was replayed, which is judged."""

import argparse
import contextlib
import os
import pathlib
import random
import re
import shutil
import sys
import tempfile
import time

from longrun import REPO, WORK, Broken, Run, check, ends_in_order, told  # noqa: I001: it sets the path
import rawzk as zk
import workload
from server import PATIENCE_S, Server, four_letter

KILLS, RESTARTS = 100, 200
PREFIX = "starts-"
# Nodes beside those of the clients: they make starts and snapshots long enough to be hit.
BULK, BULK_BYTES, TOGETHER = 20_000, 200, 200
# Kills that may miss, for each that hits.
MISSES = 5
# Fewer show no period.
RESTARTS_MIN = 120
# When in its period a half ends makes so much of a difference.
SEGMENTS_SLACK, REPLAYED_SLACK = 4, 8
# A store lives for so many kills.
LIFE = 20
STARTING, SNAPSHOT = "starting", "snapshot"


@contextlib.contextmanager
def server(**options):
    WORK.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=WORK, ignore_cleanup_errors=True) as root:
        made = Server(parent=root, **options)
        try:
            yield made
        finally:
            made.close()


def note(made):
    """Writes down whom `--clean` may end."""
    (made.root.parent / "pid").write_text(str(made.process.pid))


def client(made):
    raw = zk.Raw(made.port, timeout=PATIENCE_S)
    raw.connect(timeout=30000)
    return raw


def leave(raw):
    raw.call(zk.CLOSE)
    raw.close()


def native(made, prefix):
    return sorted((made.data / "ringkeeper-1").glob(f"{prefix}*"))


def fill(made):
    raw = client(made)
    check(raw.call(zk.CREATE, zk.create_body("/bulk", b""))[1] == 0, "/bulk is made")
    for first in range(0, BULK, TOGETHER):
        body = zk.multi_body((zk.CREATE, zk.create_body(f"/bulk/n{n}", b"%d" % n * (BULK_BYTES // len(str(n))))) for n in range(first, first + TOGETHER))
        check(raw.call(zk.MULTI, body)[1] == 0, f"nodes from {first} on are made")
    leave(raw)


def filled(made, rng):
    """That all of them are there: their number, and the content of some."""
    raw = client(made)
    _, error, body = raw.call(zk.CHILDREN, zk.path_body("/bulk"))
    check(error == 0 and len(zk.read_names(body)[0]) == BULK, f"/bulk has lost nodes: error {error}")
    for n in rng.sample(range(BULK), 50):
        _, error, body = raw.call(zk.GET, zk.path_body(f"/bulk/n{n}"))
        due = b"%d" % n * (BULK_BYTES // len(str(n)))
        check(error == 0 and zk.read_buf(body, 0)[0] == due, f"/bulk/n{n}: error {error}, or other data")
    leave(raw)


def answers(made):
    try:
        return "Mode: standalone" in four_letter(made.port, "srvr", 0.05)
    except OSError:
        return False


class Kill:
    """One trial: a kill under load, and one while the server starts, or one while it makes a snapshot."""

    def __init__(self, run, made, where):
        self.run, self.made, self.where = run, made, where
        self.hit = False

    def end(self, made, rng):
        time.sleep(rng.uniform(0.05, 0.3))
        if self.where == SNAPSHOT:
            self.during_snapshot(rng)
        else:
            made.kill9()

    def during_snapshot(self, rng):
        """Waits for a temporary file; the kill comes within the time that the last one was there."""
        made, until = self.made, time.monotonic() + PATIENCE_S
        while not native(made, "tmp."):
            check(time.monotonic() < until and made.ended() is None, f"no snapshot comes; {made.ended() or ''}")
            time.sleep(0.0005)
        time.sleep(rng.uniform(0, self.run.kept.get("snapshot_s", 0.02)))
        made.kill9()
        self.hit = bool(native(made, "tmp."))
        # Too late: the next one comes earlier. In time: the next one may come later.
        self.run.kept["snapshot_s"] = min(1.0, self.run.kept.get("snapshot_s", 0.02) * (1.1 if self.hit else 0.6))

    def start(self, made, rng):
        if self.where == STARTING:
            self.during_start(rng)
        made.start()
        note(made)

    def during_start(self, rng):
        made = self.made
        made.spawn()
        note(made)
        time.sleep(rng.uniform(0, self.run.kept.get("start_s", 0.1)))
        check(made.process.poll() is None, f"a start ended with {made.process.poll()}: {made.log.read_text()[-800:]}")
        self.hit = not answers(made)
        made.kill9()
        self.run.kept["start_s"] = min(5.0, self.run.kept.get("start_s", 0.1) * (1.1 if self.hit else 0.6))


def all_kills(run):
    wanted = {STARTING: run.n, SNAPSHOT: run.n}
    tried = 0
    while sum(run.counts.get(f"while_{where}", 0) for where in wanted) < 2 * run.n:
        with server(tickTime=100, minSessionTimeout=200, snapCount=400, preAllocSize=4160, shards=random.Random(f"{run.seed}-{tried}").choice((0, 2))) as made:
            made.start()
            note(made)
            workload.prepare(made)
            fill(made)
            before = workload.fresh()
            for _ in range(LIFE):
                open_ = [where for where in wanted if run.counts.get(f"while_{where}", 0) < wanted[where]]
                if not open_:
                    break
                tried += 1
                check(tried < 2 * run.n * MISSES, f"{tried} kills, and too few came in time: {run.counts}")
                rng = random.Random(f"{run.seed}-{run.counts.get('kills', 0)}")
                kill = Kill(run, made, rng.choice(open_))
                wrong, acknowledged = workload.trial(made, tried, rng.getrandbits(64), before, kill.end, kill.start)
                check(not wrong, f"kill {run.counts.get('kills', 0)} of seed {run.seed}: " + "\n".join(wrong[:20]))
                filled(made, rng)
                run.count("kills")
                run.count("acknowledged", acknowledged)
                if kill.hit:
                    run.count(f"while_{kill.where}")
                if kill.hit and min(run.counts.get(f"while_{where}", 0) for where in wanted) > run.done:
                    run.step()


LOOKED_AT = ("bytes", "segments", "snapshots", "descriptors", "replayed")


def at_rest(made):
    """What there is when nothing is made any more: two looks in a row see the same."""
    def look():
        files = [path for path in made.data.rglob("*") if path.is_file()]
        return {"bytes": sum(path.stat().st_blocks * 512 for path in files), "segments": len(native(made, "log.")),
                "snapshots": len(native(made, "snap.")), "descriptors": made.descriptors()}
    until, last, same = time.monotonic() + PATIENCE_S, None, 0
    while same < 3:
        check(time.monotonic() < until and made.ended() is None, f"no rest comes: {last}; {made.ended() or ''}")
        try:
            now = look()
        except FileNotFoundError:
            now = None
        settled = now == last and now and made.spares() >= 2 and not native(made, "tmp.")
        last, same = now, same + 1 if settled else 0
        time.sleep(0.02)
    return last


def restart(run, made, rng):
    """Ends the server, starts it, writes one node, and looks."""
    if made.process is not None:
        made.stop() if rng.random() < 0.5 else made.kill9()
    said = made.log.stat().st_size if made.log.exists() else 0
    began = time.monotonic()
    made.start()
    took = time.monotonic() - began
    note(made)
    text = made.log.read_text()[said:]
    replayed = re.search(r"(\d+) transactions replayed", text)
    check(replayed, f"the start does not say what it has replayed: {text[-500:]}")
    raw = client(made)
    for n in range(run.done):
        check(raw.call(zk.GET, zk.path_body(f"/r{n}"))[1] == 0, f"/r{n} is gone")
    check(raw.call(zk.CREATE, zk.create_body(f"/r{run.done}", bytes(100)))[1] == 0, f"/r{run.done} is made")
    leave(raw)
    return {**at_rest(made), "replayed": int(replayed.group(1)), "start_ms": round(took * 1000)}


def all_restarts(run):
    """On one store, so one that was interrupted begins anew."""
    run.state.update(done=0, counts={}, kept={}, seconds=0.0)
    rng = random.Random(run.seed)
    seen = []
    with server(preAllocSize=65536, snapCount=100_000) as made:
        while run.done < run.n:
            seen.append(restart(run, made, rng))
            run.step()
        made.stop()
    return flat(seen)


def flat(seen):
    """Figures of both halves, once none of the second exceeds what the first allows."""
    half = len(seen) // 2
    first, second = ({what: max(look[what] for look in part) for what in (*LOOKED_AT, "start_ms")} for part in (seen[:half], seen[half:]))
    allowed = {"bytes": first["bytes"] * 1.1, "segments": first["segments"] + SEGMENTS_SLACK, "snapshots": first["snapshots"],
               "descriptors": first["descriptors"], "replayed": first["replayed"] + REPLAYED_SLACK}
    grown = {what: (first[what], second[what]) for what in LOOKED_AT if second[what] > allowed[what]}
    check(not grown, f"these grow with the restarts (at most in the first and in the second half): {grown}")
    medians = {f"{name}_start_ms": sorted(look["start_ms"] for look in part)[len(part) // 2] for name, part in (("first", seen[:half]), ("second", seen[half:]))}
    return {**{f"{what}_first_half": first[what] for what in LOOKED_AT}, **{f"{what}_second_half": second[what] for what in LOOKED_AT}, **medians}


def clean():
    found = sorted(WORK.glob(f"{PREFIX}*"))
    for root in found:
        with contextlib.suppress(OSError, ValueError):
            pid = int((root / "pid").read_text())
            if str(root) in pathlib.Path(f"/proc/{pid}/cmdline").read_text():
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(root, ignore_errors=True)
    print(f"{len(found)} directories given back")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int)
    parser.add_argument("--restarts", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--clean", action="store_true")
    args = parser.parse_args()
    if args.restarts and args.restarts < RESTARTS_MIN:
        parser.error(f"--restarts is at least {RESTARTS_MIN}")
    ends_in_order()
    if args.clean:
        return clean() or 0
    passed = failed = 0
    for name, n, least, do in (("kills", args.kills, KILLS, all_kills), ("restarts", args.restarts, RESTARTS, all_restarts)):
        if not n:
            continue
        run = Run(name, n, args.seed, least)
        try:
            figures = do(run) or {}
            print(f"{name}: {told(run.complete(**figures, violations=0))}")
            passed += 1
        except (Broken, RuntimeError) as e:
            print(f"{name}: {e}\n{told(run.counts)}")
            failed += 1
    print(f"{passed} passed, {failed} failed")
    return int(failed > 0 or passed == 0)


if __name__ == "__main__":
    sys.exit(main())
