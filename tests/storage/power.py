#!/usr/bin/env python3
"""Power cuts under load, on an ext4 of its own; after each the history of eight clients is checked.

    tests/storage/power.py --cuts 300 [--seed S] [--device ext4|cache|both]
    tests/storage/power.py --lie          shows that a server whose syncs do nothing is found
    tests/storage/power.py --clean        gives back what a run that was killed has left

The real server writes to an ext4 on a loop device. A cut is one of two:

| Device | What ends the disk | What is lost |
|---|---|---|
| ext4 | the file system's shutdown ioctl: mostly without its journal (NOLOGFLUSH), one in four with it (LOGFLUSH) | what the server or the kernel had not written back; the device keeps all that it was given |
| cache | the loop device lies on a file that this program serves by FUSE, with a cache that only a flush empties | besides, of each sector that was written since the last flush, whether it is kept is thrown |

The server is killed, the file system is unmounted, mounted (which replays its journal), unmounted, checked by
`e2fsck -n -f`, and mounted again. Then the server must start without help, every acknowledged write must be there,
nothing that was acknowledged as deleted may be back, and sessions must be what they were (tests/kill/checker.py).

A cut comes under load, at a roll of the log, while a snapshot is made, after SIGTERM, or while the server starts
after another cut. Inline and two shards take turns on the same store, which lives for some cuts. Needs root and loop
devices; where they are not there nothing is run, and nothing counts as passed."""

import argparse
import contextlib
import fcntl
import os
import pathlib
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

from longrun import HERE, REPO, WORK, Broken, Run, check, ends_in_order, told  # noqa: I001: it sets the path
import rawzk as zk
import server as tested
import workload
from server import Server, four_letter

CLOSE = 300
# From <linux/ext4.h>: _IOR('X', 125, __u32) and its flags.
SHUTDOWN = 2 << 30 | 4 << 16 | ord("X") << 8 | 125
LOGFLUSH, NOLOGFLUSH = 1, 2
DISK_BYTES = 512 << 20
PREFIX = "power-"
# Cuts that a store lives for, at most.
LIVES = (1, 12)
MOMENTS = ("load", "load", "roll", "snapshot", "close", "start")
# Seconds in which a roll or a snapshot comes, or a mount is given back.
PATIENCE_S = 20
# Cuts within which a server that does not sync is found.
LIES = 10
LIE = "int fdatasync(int fd) { (void)fd; return 0; }\nint fsync(int fd) { (void)fd; return 0; }\n"
# jute.maxbuffer of 64 KiB allows segments of 320 KiB: several a second.
FRAME_BYTES, SEGMENT_KIB, SNAP_COUNT = 65536, 320, 500
PROPERTIES = {"jute.maxbuffer": FRAME_BYTES}


def command(*words, may_fail=False):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False, timeout=120)
    if done.returncode and not may_fail:
        raise OSError(f"`{' '.join(map(str, words))}`: {(done.stderr or done.stdout).strip()}")
    return done


def patiently(*words):
    """A command that fails as long as a killed process still holds something."""
    until = time.monotonic() + PATIENCE_S
    while (done := command(*words, may_fail=True)).returncode:
        check(time.monotonic() < until, f"`{' '.join(map(str, words))}`: {done.stderr.strip()}")
        time.sleep(0.02)


class Disk:
    """A file, a loop device on it, and an ext4 on that."""

    kind = "ext4"

    def __init__(self, root, seed):
        self.root = pathlib.Path(root)
        self.seeds = random.Random(seed)
        self.image, self.mounted = self.root / "image", self.root / "mounted"
        self.mounted.mkdir()
        with open(self.image, "wb") as file:
            file.truncate(DISK_BYTES)
        command("mkfs.ext4", "-q", "-b", "4096", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1", self.image)
        self.mount()

    def mount(self):
        """As the server has it."""
        patiently("mount", "-o", "loop", self.image, self.mounted)

    def umount(self):
        patiently("umount", self.mounted)

    def cut(self, rng):
        """The power fails: nothing is written any more. What it was, for the counts."""
        flag = NOLOGFLUSH if rng.random() < 0.75 else LOGFLUSH
        directory = os.open(self.mounted, os.O_RDONLY)
        try:
            fcntl.ioctl(directory, SHUTDOWN, struct.pack("=I", flag))
        finally:
            os.close(directory)
        return "cuts_without_journal" if flag == NOLOGFLUSH else "cuts_with_journal"

    def repair(self):
        """The power is back: what a machine does before the server is started."""
        self.umount()
        patiently("mount", "-o", "loop", self.image, self.mounted)
        patiently("umount", self.mounted)
        checked = command("e2fsck", "-n", "-f", self.image, may_fail=True)
        check(checked.returncode == 0, f"e2fsck: {checked.stdout[-800:]}")
        self.mount()

    def close(self):
        command("umount", "-l", self.mounted, may_fail=True)


class CachedDisk(Disk):
    """The loop device lies on a file that cached.py serves."""

    kind = "cache"

    def mount(self):
        self.fuse = self.root / "fuse"
        self.fuse.mkdir(exist_ok=True)
        serving = [HERE / "cached.py", self.image, self.fuse, DISK_BYTES, self.seeds.getrandbits(32)]
        self.process = subprocess.Popen([sys.executable, *map(str, serving)])
        (self.root / "served").write_text(str(self.process.pid))
        self.until((self.fuse / "disk").exists, "the FUSE file system is not there")
        patiently("mount", "-o", "loop", self.fuse / "disk", self.mounted)

    def until(self, done, why):
        until = time.monotonic() + PATIENCE_S
        while not done():
            check(time.monotonic() < until and self.process.poll() is None, why)
            time.sleep(0.002)

    def umount(self):
        super().umount()
        self.stop()

    def stop(self):
        self.process.kill()
        self.process.wait()
        patiently("umount", "-l", self.fuse)

    def cut(self, rng):
        said = self.image.with_suffix(".cut")
        self.process.send_signal(signal.SIGUSR1)
        self.until(said.exists, "the power does not fail")
        waiting, kept, flushes = map(int, said.read_text().split())
        said.unlink()
        check(flushes, "no flush reached the device: it would lose everything")
        return "cuts_that_lost_pages" if kept < waiting else "cuts_of_an_empty_cache"

    def close(self):
        # The device fails at once: who waits for it gets an error.
        self.process.kill()
        self.process.wait()
        for mounted in (self.mounted, self.fuse):
            command("umount", "-l", mounted, may_fail=True)


@contextlib.contextmanager
def disk(kind, seed=0):
    WORK.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=WORK, ignore_cleanup_errors=True) as root:
        made = None
        try:
            made = KINDS[kind](root, seed)
            yield made
        finally:
            if made is None:
                give_back(pathlib.Path(root))
            else:
                made.close()


class Store:
    """A server's data on a disk, and what is known of it."""

    def __init__(self, disk, server, lives):
        self.disk, self.server, self.lives = disk, server, lives
        self.before = workload.fresh()

    def names(self, *prefixes):
        """Native files whose names begin so."""
        with contextlib.suppress(OSError):
            return {name for name in os.listdir(self.server.data / "ringkeeper-1") if name.startswith(prefixes)}
        return set()

    def start(self, shards):
        self.server.options["shards"] = shards
        self.server.start()
        self.note()

    def note(self):
        """Writes down whom `--clean` may end."""
        (self.disk.root / "pid").write_text(str(self.server.process.pid))


@contextlib.contextmanager
def store(kind, rng):
    """A fresh one, its server started."""
    with contextlib.ExitStack() as ends:
        made = ends.enter_context(disk(kind, rng.getrandbits(64)))
        server = Server(properties=PROPERTIES, parent=made.root, tickTime=100, minSessionTimeout=200,
                        snapCount=SNAP_COUNT, preAllocSize=SEGMENT_KIB)
        ends.callback(server.close)
        server.data = made.mounted / "data"
        fresh = Store(made, server, rng.randint(*LIVES))
        fresh.start(0)
        workload.prepare(server)
        yield fresh


def appears(store, *prefixes):
    """Waits until a native file with such a name is new."""
    before, until = store.names(*prefixes), time.monotonic() + PATIENCE_S
    while not store.names(*prefixes) - before:
        check(time.monotonic() < until and store.server.ended() is None, f"no {prefixes} comes; {store.server.ended() or ''}")
        time.sleep(0.0005)


class Cut:
    """One trial: where the power fails, and what is found there."""

    def __init__(self, run, store, moment, shards):
        self.run, self.store, self.moment, self.shards = run, store, moment, shards

    def fails(self, rng):
        """The power fails, and the server's process is gone."""
        server, store = self.store.server, self.store
        self.run.count(store.disk.cut(rng))
        self.run.count("with_a_temporary_snapshot", bool(store.names("tmp.")))
        server.kill9()

    def end(self, server, rng):
        """Load until the moment has come."""
        time.sleep(rng.uniform(0.05, 0.5))
        if self.moment == "roll":
            appears(self.store, "log.")
            time.sleep(rng.uniform(0, 0.01))
        elif self.moment == "snapshot":
            appears(self.store, "tmp.", "snap.")
            time.sleep(rng.uniform(0, 0.02))
        elif self.moment == "close":
            server.process.send_signal(signal.SIGTERM)
            time.sleep(rng.uniform(0, rng.choice((0.002, 0.01, 0.04))))
        if self.moment == "close":
            self.run.count("while_closing", server.process.poll() is None)
        else:
            check(server.ended() is None, server.ended())
        self.fails(rng)

    def start(self, server, rng):
        """The power is back."""
        self.store.disk.repair()
        server.options["shards"] = self.shards
        if self.moment == "start":
            server.spawn()
            self.store.note()
            time.sleep(rng.uniform(0, 0.12))
            code = server.process.poll()
            check(code is None, f"a start ended with {code}: {server.log.read_text()[-800:]}")
            self.run.count("while_starting", not serves(server))
            self.fails(rng)
            self.store.disk.repair()
        said = server.log.stat().st_size
        self.store.start(self.shards)
        text = server.log.read_text(errors="replace")[said:]
        self.run.count("torn_batches", "never acknowledged" in text)


def serves(server):
    try:
        return "Mode: standalone" in four_letter(server.port, "srvr", 0.05)
    except OSError:
        return False


def one_cut(run, store, number):
    rng = random.Random(f"{run.seed}-{number}")
    cut = Cut(run, store, rng.choice(MOMENTS), rng.choice((0, 2)))
    wrong, acknowledged = workload.trial(store.server, number, rng.getrandbits(64), store.before, cut.end, cut.start)
    check(not wrong, "\n".join(wrong[:20]))
    run.count("acknowledged", acknowledged)
    run.count(f"at_{cut.moment}")
    run.count(f"on_{store.disk.kind}")
    run.count("started_with_shards", cut.shards > 0)
    store.lives -= 1


def all_cuts(run, kinds):
    while run.done < run.n:
        rng = random.Random(f"store-{run.seed}-{run.done}")
        with store(rng.choice(kinds), rng) as fresh:
            run.count("stores")
            while fresh.lives > 0 and run.done < run.n:
                try:
                    one_cut(run, fresh, run.done)
                except (Broken, RuntimeError, AssertionError, OSError, zk.Closed) as e:
                    keep = WORK / f"broken-{PREFIX}{run.seed}-{run.done}"
                    shutil.copytree(fresh.server.root, keep, dirs_exist_ok=True)
                    shutil.copytree(fresh.server.data, keep / "data", dirs_exist_ok=True)
                    raise Broken(f"cut {run.done} of seed {run.seed}: {e}\nserver and store are kept in {keep.relative_to(REPO)}") from e
                run.step()


def give_back(root):
    """Unmounts, and ends the server, that a run in this directory has left."""
    for name in ("pid", "served"):
        with contextlib.suppress(OSError, ValueError):
            pid = int((root / name).read_text())
            if str(root) in pathlib.Path(f"/proc/{pid}/cmdline").read_text():
                os.kill(pid, signal.SIGKILL)
    for name in ("mounted", "fuse"):
        command("umount", "-l", root / name, may_fail=True)
    shutil.rmtree(root, ignore_errors=True)


def clean():
    found = sorted(WORK.glob(f"{PREFIX}*"))
    for root in found:
        give_back(root)
    print(f"{len(found)} directories given back")


@contextlib.contextmanager
def lying():
    """The server's syncs, all of them made on its own core, do nothing."""
    WORK.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=WORK) as root:
        source, library, server = (pathlib.Path(root) / name for name in ("lie.c", "lie.so", "server"))
        source.write_text(LIE)
        command("cc", "-shared", "-fPIC", "-o", library, source)
        server.write_text(f'#!/bin/sh\nLD_PRELOAD={library} exec {tested.BINARY} "$@"\n')
        server.chmod(0o755)
        honest, tested.BINARY = tested.BINARY, str(server)
        PROPERTIES["ringkeeper.inlineSync"] = "always"
        try:
            yield
        finally:
            tested.BINARY = honest
            del PROPERTIES["ringkeeper.inlineSync"]


def lie(seed):
    """Whether what a server that does not sync loses is found."""
    run = Run("lies", LIES, seed, LIES + 1)
    try:
        with lying():
            all_cuts(run, ("ext4",))
    except Broken as e:
        print(f"{str(e)[:600]}\n\na server that does not sync was found at cut {run.done + 1}\n1 passed, 0 failed")
        return 0
    print(f"{told(run.counts)}\na server that does not sync was not found in {LIES} cuts\n0 passed, 1 failed")
    return 1


def not_here():
    """Why nothing can be run here; `None` if it can."""
    if os.geteuid() != 0:
        return "root is needed"
    try:
        with disk("ext4"):
            return None
    except OSError as e:
        return f"no ext4 on a loop device: {e}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", choices=("ext4", "cache", "both"), default="both")
    parser.add_argument("--lie", action="store_true")
    parser.add_argument("--clean", action="store_true")
    args = parser.parse_args()
    ends_in_order()
    if args.clean:
        return clean() or 0
    if why := not_here():
        print(f"power cuts: not run: {why}")
        print("0 passed, 0 failed, 1 not run")
        return 0
    if args.lie:
        return lie(args.seed)
    run = Run("cuts", args.cuts, args.seed, CLOSE)
    kinds = tuple(KINDS) if args.device == "both" else (args.device,)
    try:
        all_cuts(run, kinds)
    except Broken as e:
        print(f"{e}\n{told(run.counts)}\n0 passed, 1 failed")
        return 1
    print(told(run.complete(violations=0, starts_that_needed_help=0)))
    print("1 passed, 0 failed")
    return 0


KINDS = {"ext4": Disk, "cache": CachedDisk}

if __name__ == "__main__":
    sys.exit(main())
