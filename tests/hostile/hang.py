#!/usr/bin/env python3
"""A block device that stops answering: a loop device over a file of a FUSE file system that this program serves.

    hang.py BACKING MOUNTPOINT BYTES     serves MOUNTPOINT/disk, kept in BACKING, until it is killed

Stopped by SIGSTOP, the program answers no request of the kernel, and whoever writes to the device waits.
Killed, it ends the connection: whoever waits gets an error, so nothing can hang for ever. Needs root,
/dev/fuse and loop devices; no library. The layouts are those of the kernel's `fuse.h`, version 7.31."""

import contextlib
import ctypes
import errno
import os
import pathlib
import signal
import stat
import struct
import subprocess
import sys
import time

LOOKUP, FORGET, GETATTR, SETATTR, OPEN, READ, WRITE, STATFS, RELEASE, FSYNC, FLUSH, INIT = 1, 2, 3, 4, 14, 15, 16, 17, 18, 20, 25, 26
DESTROY, BATCH_FORGET = 38, 42
# Requests that have no answer.
SILENT = (FORGET, BATCH_FORGET)
REQUEST = struct.Struct("=IIQQIIIHH")
REPLY = struct.Struct("=IiQ")
TRANSFER = struct.Struct("=QQII")
ATTRIBUTES = struct.Struct("=6Q10I")
ROOT, DISK = 1, 2
WRITE_MAX = 1 << 20
BIG_WRITES, MAX_PAGES = 1 << 5, 1 << 22
# Seconds in which a device is given back.
GONE_S = 20


class Disk:
    """Answers for a directory with one file."""

    def __init__(self, backing, size):
        self.size = size
        self.file = os.open(backing, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(self.file, size)

    def attributes(self, node):
        mode = stat.S_IFDIR | 0o755 if node == ROOT else stat.S_IFREG | 0o600
        size = 0 if node == ROOT else self.size
        return ATTRIBUTES.pack(node, size, size >> 9, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)

    def answer(self, operation, node, body):
        if operation == INIT:
            return struct.pack("=IIIIHHIIHH8I", 7, 31, 1 << 17, BIG_WRITES | MAX_PAGES, 64, 48, WRITE_MAX, 1, WRITE_MAX >> 12, 0, *[0] * 8)
        if operation == LOOKUP:
            if body.rstrip(b"\0") != b"disk":
                raise OSError(errno.ENOENT, "no such file")
            return struct.pack("=QQQQII", DISK, 0, 3600, 3600, 0, 0) + self.attributes(DISK)
        if operation in (GETATTR, SETATTR):
            return struct.pack("=QII", 3600, 0, 0) + self.attributes(node)
        if operation == OPEN:
            return struct.pack("=QII", 1, 0, 0)
        if operation == READ:
            _, offset, size, _ = TRANSFER.unpack_from(body)
            return os.pread(self.file, size, offset)
        if operation == WRITE:
            _, offset, size, _ = TRANSFER.unpack_from(body)
            return struct.pack("=II", os.pwrite(self.file, body[40:40 + size], offset), 0)
        if operation == STATFS:
            return struct.pack("=5Q4I6I", 0, 0, 0, 0, 0, 4096, 255, 4096, *[0] * 7)
        if operation in (RELEASE, FSYNC, FLUSH, DESTROY):
            return b""
        raise OSError(errno.ENOSYS, "not there")

    def serve(self, device):
        while True:
            try:
                request = os.read(device, WRITE_MAX + 8192)
            except OSError as e:
                if e.errno in (errno.EINTR, errno.ENOENT, errno.EAGAIN):
                    continue
                return
            _, operation, unique, node, *_ = REQUEST.unpack_from(request)
            try:
                body, error = self.answer(operation, node, request[REQUEST.size:]), 0
            except OSError as e:
                body, error = b"", -e.errno
            if operation not in SILENT:
                with contextlib.suppress(OSError):
                    os.write(device, REPLY.pack(REPLY.size + len(body), error, unique) + body)


def main():
    backing, mountpoint, size = sys.argv[1:]
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"hang", mountpoint.encode(), b"fuse", 0, options.encode()):
        sys.exit(f"mount: {os.strerror(ctypes.get_errno())}")
    Disk(backing, int(size)).serve(device)


def command(*words):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"`{' '.join(map(str, words))}`: {done.stderr.strip()}")
    return done.stdout.strip()


class Hanging:
    """A mounted file system on such a device: `still()` and `go_on()`."""

    def __init__(self, root, size):
        self.root = pathlib.Path(root)
        self.fuse, self.directory = self.root / "fuse", self.root / "mounted"
        self.size = size
        self.loop = None

    def __enter__(self):
        self.fuse.mkdir()
        self.directory.mkdir()
        self.process = subprocess.Popen([sys.executable, __file__, self.root / "backing", self.fuse, str(self.size)])
        try:
            until = time.monotonic() + 10
            while not (self.fuse / "disk").exists():
                if time.monotonic() > until or self.process.poll() is not None:
                    raise OSError("the FUSE file system is not there: root and /dev/fuse are needed")
                time.sleep(0.02)
            self.loop = command("losetup", "--find", "--show", self.fuse / "disk")
            command("mkfs.ext4", "-q", "-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=1", self.loop)
            command("mount", "-o", "nodiscard", self.loop, self.directory)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.close()
        # The loop device gives its file back when the last who uses it has gone: the mount of that file goes lazily.
        for words in (("umount", self.directory), ("losetup", "-d", self.loop), ("umount", "--lazy", self.fuse)):
            if None not in words:
                until = time.monotonic() + GONE_S
                # A process that was killed while it waited for the device takes a moment to go.
                while subprocess.run([str(word) for word in words], capture_output=True, check=False).returncode and time.monotonic() < until:
                    time.sleep(0.1)

    def close(self):
        """The device fails: who waits for it, or still has much to write, gets an error at once."""
        self.process.kill()
        self.process.wait()

    def still(self):
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)


if __name__ == "__main__":
    main()
