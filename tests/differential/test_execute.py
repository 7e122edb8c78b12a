"""Whole programs on two small servers in memory (toy.py): nothing is found where they are the same, and each planted
bug is, with its shortest program."""

import contextlib
import pathlib
import sys
import unittest

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent)]

import shrink
from coverage import Coverage
from execute import Executor
from program import Program, Request, Step
from toy import Toys

OPEN = [(31, "world", "anyone")]


def make(path, data=b"", flags=0):
    return Request("create", {"path": path, "data": data, "acl": OPEN, "flags": flags})


def change(path, data):
    return Request("setData", {"path": path, "data": data, "version": -1})


def read(op, path, watch=0):
    return Request(op, {"path": path, "watch": watch})


def send(slot, *requests):
    return Step("send", slot, {}, requests)


NEW = {"timeout": 60_000, "readOnly": 0}
OWN = {**NEW, "session": "own"}
WHOLE = Program(1, 7, "default", (
    Step("connect", 0, NEW, (make("~/a"), make("~/b", b"twice"), read("getData", "~/a", 1))),
    Step("connect", 1, NEW, (read("exists", "~/a", 1), read("getChildren2", "~", 0))),
    send(0, make("~/e", flags=1), make("~/e", flags=1), change("~/a", b"x"), read("exists", "~/missing")),
    send(1, read("getData", "~/a", 1), change("~/b", b""), change("~/a", b"y"), Request("ping")),
    Step("handshake", 0, {"data": b"\xff\xff\xff\xff"}),
    send(0, Request("unknown", {"number": 99})),
    Step("reattach", 0, OWN, (read("getData", "~/e", 1),)),
    Step("reattach", 0, {**OWN, "piped": True}, (read("getData", "~/e", 1), read("getACL", "~/e"))),
    Step("reattach", 0, {**OWN, "password": "wrong"}),
    Step("reattach", 0, {**OWN, "session": "unknown"}),
    Step("reattach", 0, OWN, (read("getData", "~/e", 1),)),
    send(1, read("getData", "~/e", 1), read("exists", "~/b", 1)),
    send(0, Request("delete", {"path": "~/b", "version": -1})),
    Step("frame", 1, {"data": b"\0\0\0\1\0"}),
    Step("drop", 1, {"reset": True}),
    Step("connect", 2, NEW, (read("getData", "~/e", 1), read("getChildren2", "~"))),
    Step("expire", 0, {}),
    Step("expire", 2, {"open": True}),
    Step("reattach", 0, OWN),
    Step("connect", 3, NEW, (make("~/f", flags=1), read("exists", "~/f", 1))),
    send(3, Request("closeSession")),
))
# Without what waits for the clock.
SHORT = Program(1, 8, "default", tuple(step for step in WHOLE.steps if step.do != "expire"))


class Executed(unittest.TestCase):
    def on(self, bug, program=WHOLE):
        with contextlib.closing(Toys(bug)) as toys:
            executor = self.enterContext(contextlib.closing(Executor(toys, Coverage())))
            found = executor.run(program)
            if found is None:
                return None, executor
            picks = shrink.shrunk(program.picks(), lambda part: (again := executor.run(program.only(part))) and again.what == found.what, 20)
            return (found, program.only(picks)), executor

    def test_equal_servers_show_no_difference_and_the_tree_is_gone(self):
        found, executor = self.on(None)
        self.assertIsNone(found and found[0])
        self.assertEqual([path for path in executor.servers.ours.nodes if path.startswith("/d")], [])
        self.assertEqual(list(executor.servers.ours.sessions), [5001])
        self.assertEqual(executor.rows, {})
        for cell in ("create|0", "create|-110", "exists|-101", "unknown|-6", "closeSession|0"):
            self.assertIn(f"default|{cell}", executor.coverage.cells)
        self.assertIn("default|expire|2", executor.coverage.events)
        takes = {op: executor.coverage.takes(op, code) for op, code in (("exists", -101), ("getData", 0), ("create", -110), ("setData", 0))}
        self.assertEqual(takes, {"exists": "no", "getData": "no", "create": "yes", "setData": "yes"})

    def test_no_session_is_left_to_expire_in_another_program(self):
        steps = (Step("connect", 0, NEW, (make("~/e", flags=1),)), Step("drop", 0), Step("connect", 0, NEW), Step("connect", 1, NEW),
                 Step("restart"), Step("connect", 1, NEW, (read("exists", "~/e"),)))
        found, executor = self.on(None, Program(1, 9, "default", steps))
        self.assertIsNone(found and found[0])
        self.assertEqual([list(one.sessions) for one in executor.servers.both()], [[1001], [5001]])

    def shrunk(self, bug, what, *requests):
        (found, part), _ = self.on(bug, SHORT)
        self.assertEqual(found.what, what)
        self.assertEqual([str(request).split(",")[0] for step in part.steps for request in step.requests], list(requests))
        self.assertTrue(found.lines)

    def test_a_version_too_few(self):
        self.shrunk("a version too few", "setData: body, err 0", "create(path='~/b'", "setData(path='~/b'")

    def test_a_zxid_too_many(self):
        self.shrunk("a zxid too many", "create: xid or zxid, err 0", "create(path='~/b'")

    def test_an_event_too_few(self):
        self.shrunk("no event of a delete", "events behind nothing asked: [2], ours []", "create(path='~/e'", "getData(path='~/e'")


if __name__ == "__main__":
    unittest.main()
