"""What the long runs judge by, on plain values: no server, no disk."""

import errno
import pathlib
import struct
import sys
import tempfile
import unittest

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent)]

import cached
import hang
import longrun
import starts


def looks(**grown):
    """Eight looks; what is named grows from the fifth on."""
    same = {"bytes": 1000, "segments": 4, "snapshots": 3, "descriptors": 20, "replayed": 9, "start_ms": 50}
    return [dict(same) for _ in range(4)] + [{**same, **grown} for _ in range(4)]


class Flat(unittest.TestCase):
    def test_what_stays_is_flat_whatever_the_clock_says(self):
        figures = starts.flat(looks(start_ms=5000, bytes=1100, segments=8))
        self.assertEqual((figures["segments_first_half"], figures["segments_second_half"]), (4, 8))
        self.assertEqual(figures["second_start_ms"], 5000)

    def test_each_thing_that_grows_is_named(self):
        for what, value in {"bytes": 1101, "segments": 9, "snapshots": 4, "descriptors": 21, "replayed": 18}.items():
            with self.assertRaisesRegex(longrun.Broken, what):
                starts.flat(looks(**{what: value}))


class Cache(unittest.TestCase):
    """The disk whose cache only a flush empties."""

    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.backing = pathlib.Path(self.directory.name) / "image"
        self.disk = cached.Cached(self.backing, 16 * cached.PAGE, 1)

        self.addCleanup(self.directory.cleanup)

    def ask(self, operation, offset=0, size=0, data=b""):
        return self.disk.answer(operation, hang.DISK, hang.TRANSFER.pack(0, offset, size or len(data), 0).ljust(40, b"\0") + data)

    def test_what_was_written_is_read_and_reaches_the_file_at_a_flush(self):
        data = bytes(range(256)) * 40
        written, = struct.unpack_from("=I", self.ask(hang.WRITE, 1000, data=data))
        self.assertEqual(written, len(data))
        self.assertEqual(self.ask(hang.READ, 0, 12288), bytes(1000) + data + bytes(12288 - 1000 - len(data)))
        self.assertEqual(self.backing.read_bytes().count(0), 16 * cached.PAGE)
        self.ask(hang.FSYNC)
        self.assertEqual(self.backing.read_bytes()[1000:1000 + len(data)], data)

    def test_a_cut_loses_nothing_that_was_flushed_and_ends_everything(self):
        self.ask(hang.WRITE, 0, data=b"a" * cached.PAGE)
        self.ask(hang.FSYNC)
        self.ask(hang.WRITE, cached.PAGE, data=b"b" * 8 * cached.PAGE)
        self.disk.cut()
        left = self.backing.read_bytes()
        self.assertEqual(left[:cached.PAGE], b"a" * cached.PAGE)
        pages = {left[n * cached.PAGE:(n + 1) * cached.PAGE] for n in range(1, 9)}
        self.assertLessEqual(pages, {b"b" * cached.PAGE, bytes(cached.PAGE)}, "a page is whole, or as it was")
        self.assertIn(bytes(cached.PAGE), pages, "with this seed some are lost")
        waiting, kept, flushes = map(int, self.backing.with_suffix(".cut").read_text().split())
        self.assertEqual((waiting, flushes, kept < 8), (8, 1, True))
        self.fails(hang.READ, hang.WRITE, hang.FSYNC)

    def fails(self, *operations):
        for operation in operations:
            with self.assertRaises(OSError) as failed:
                self.ask(operation, data=bytes(512))
            self.assertEqual(failed.exception.errno, errno.EIO)

    def test_a_cut_that_is_announced_comes_with_the_last_write_or_instead_of_a_flush(self):
        self.disk.left = 2
        self.ask(hang.WRITE, 0, data=b"a" * cached.PAGE)
        self.assertFalse(self.disk.failed)
        self.fails(hang.WRITE)
        self.assertEqual(self.backing.with_suffix(".cut").read_text().split()[0], "1")
        self.setUp()
        self.ask(hang.WRITE, 0, data=b"a" * cached.PAGE)
        self.disk.left = 30
        self.fails(hang.FSYNC)
        self.assertEqual((self.disk.flushes, self.disk.failed), (0, True))


if __name__ == "__main__":
    unittest.main()
