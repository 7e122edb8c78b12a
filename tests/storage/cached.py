#!/usr/bin/env python3
"""A disk with a cache that only a flush empties: one file of a FUSE file system that this program serves.

    cached.py BACKING MOUNTPOINT BYTES SEED     serves MOUNTPOINT/disk, kept in BACKING, until it is killed

What is written stays in memory, page by page, until the kernel asks for a flush. SIGUSR1 is a power cut, at once, some
writes later or instead of the next flush: of each page that waits it is thrown whether it reaches BACKING, the others
are lost, every later request fails, and BACKING.cut says how many pages there were. A page is what ext4 writes at once: a torn superblock would be the file system's
loss and not the server's. Needs root and /dev/fuse; ends when the program that started it does."""

import ctypes
import errno
import os
import pathlib
import random
import signal
import sys

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent.parent / "hostile")]

import hang  # noqa: E402

PAGE = 4096
PR_SET_PDEATHSIG = 1
# How much of the cache survives: nothing, half, most.
KEPT = (0.0, 0.5, 0.9)
# Writes that come before a cut, at most, unless a flush does: 0 is a cut at once.
WRITES_LEFT = (0, 3, 30)
# Nobody may write any more: then it comes after so many seconds.
CUT_S = 0.3


class Cached(hang.Disk):
    """Pages that no flush has covered are in `waiting`."""

    def __init__(self, backing, size, seed):
        super().__init__(backing, size)
        self.backing = pathlib.Path(backing)
        self.rng = random.Random(seed)
        self.waiting = {}
        self.flushes = 0
        # Writes until the cut; `None` while the power is on and stays on.
        self.left = None
        self.failed = False

    def answer(self, operation, node, body):
        if operation not in (hang.READ, hang.WRITE, hang.FSYNC):
            return super().answer(operation, node, body)
        if self.failed:
            raise OSError(errno.EIO, "the power is off")
        if operation == hang.FSYNC:
            return self.flush() if self.left is None else self.refuse()
        _, offset, size, _ = hang.TRANSFER.unpack_from(body)
        if operation == hang.READ:
            return self.read(offset, size)
        done = self.write(offset, body[40:40 + size])
        if self.left is None or self.left > 1:
            self.left = self.left and self.left - 1
            return done
        return self.refuse()

    def refuse(self):
        """The cut comes with this request, which is not answered any more."""
        self.cut()
        raise OSError(errno.EIO, "the power is off")

    def page(self, number):
        return self.waiting.get(number) or os.pread(self.file, PAGE, number * PAGE).ljust(PAGE, b"\0")

    def read(self, offset, size):
        first, last = offset // PAGE, -(-(offset + size) // PAGE)
        if self.waiting.keys().isdisjoint(range(first, last)):
            return os.pread(self.file, size, offset)
        whole = b"".join(self.page(number) for number in range(first, last))
        return whole[offset - first * PAGE:][:size]

    def write(self, offset, data):
        at = 0
        while at < len(data):
            number, within = divmod(offset + at, PAGE)
            part = data[at:at + PAGE - within]
            if len(part) < PAGE:
                old = self.page(number)
                part_page = old[:within] + part + old[within + len(part):]
            else:
                part_page = bytes(part)
            self.waiting[number] = part_page
            at += len(part)
        return hang.struct.pack("=II", len(data), 0)

    def keep(self, numbers):
        for number in sorted(numbers):
            os.pwrite(self.file, self.waiting[number], number * PAGE)

    def flush(self):
        self.keep(self.waiting)
        self.waiting.clear()
        self.flushes += 1
        return b""

    def announce(self, *_):
        """The power is going to fail."""
        self.left = self.rng.choice(WRITES_LEFT)
        if self.left:
            signal.setitimer(signal.ITIMER_REAL, CUT_S)
        else:
            self.cut()

    def cut(self, *_):
        """The power fails."""
        if self.failed:
            return
        share = self.rng.choice(KEPT)
        kept = [number for number in self.waiting if self.rng.random() < share]
        self.keep(kept)
        self.failed = True
        said = self.backing.with_suffix(".cut-now")
        said.write_text(f"{len(self.waiting)} {len(kept)} {self.flushes}")
        said.rename(self.backing.with_suffix(".cut"))


def main():
    backing, mountpoint, size, seed = sys.argv[1:]
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    disk = Cached(backing, int(size), seed)
    signal.signal(signal.SIGUSR1, disk.announce)
    signal.signal(signal.SIGALRM, disk.cut)
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other"
    if libc.mount(b"cached", mountpoint.encode(), b"fuse", 0, options.encode()):
        sys.exit(f"mount: {os.strerror(ctypes.get_errno())}")
    disk.serve(device)


if __name__ == "__main__":
    main()
