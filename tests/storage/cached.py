#!/usr/bin/env python3
"""A disk with a cache that only a flush empties: one file of a FUSE file system that this program serves.

    cached.py BACKING MOUNTPOINT BYTES SEED     serves MOUNTPOINT/disk, kept in BACKING, until it is killed

What is written stays in memory, page by page, until the kernel asks for a flush. SIGUSR1 is a power cut: of each page
that waits it is thrown whether it reaches BACKING, the others are lost, every later request fails, and BACKING.cut
says how many pages there were. A page is what ext4 writes at once: a torn superblock would be the file system's
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


class Cached(hang.Disk):
    """Pages that no flush has covered are in `waiting`."""

    def __init__(self, backing, size, seed):
        super().__init__(backing, size)
        self.backing = pathlib.Path(backing)
        self.rng = random.Random(seed)
        self.waiting = {}
        self.flushes = 0
        self.failed = False

    def answer(self, operation, node, body):
        if operation not in (hang.READ, hang.WRITE, hang.FSYNC):
            return super().answer(operation, node, body)
        if self.failed:
            raise OSError(errno.EIO, "the power is off")
        if operation == hang.FSYNC:
            return self.flush()
        _, offset, size, _ = hang.TRANSFER.unpack_from(body)
        if operation == hang.READ:
            return self.read(offset, size)
        return self.write(offset, body[40:40 + size])

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

    def cut(self, *_):
        """The power fails."""
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
    signal.signal(signal.SIGUSR1, disk.cut)
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other"
    if libc.mount(b"cached", mountpoint.encode(), b"fuse", 0, options.encode()):
        sys.exit(f"mount: {os.strerror(ctypes.get_errno())}")
    disk.serve(device)


if __name__ == "__main__":
    main()
