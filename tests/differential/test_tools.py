"""Programs, their parts, the shortest red part, coverage and progress: no server, no clock that matters."""

import pathlib
import struct
import sys
import unittest

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent)]

import canonical
import coverage
import generator
import program as programs
import report
import shrink
import wire
from compare import Judge, Said
from explained import TABLE
from program import Program, Request, Step
from wire import zk


class Toy:
    """A server of three operations in memory. `bug`: setData with empty data forgets to count the version."""

    def __init__(self, bug=False):
        self.bug, self.nodes, self.zxid = bug, {}, 0

    def answer(self, xid, request):
        path = request.args["path"]
        if request.op == "create":
            self.zxid += 1
            if path in self.nodes:
                return struct.pack(">iqi", xid, self.zxid, -110)
            self.nodes[path] = [self.zxid, 0]
            return struct.pack(">iqi", xid, self.zxid, 0) + zk.text(path)
        if request.op == "setData":
            self.zxid += 1
            if path in self.nodes and not (self.bug and request.args["data"] == b""):
                self.nodes[path][1] += 1
        if path not in self.nodes:
            return struct.pack(">iqi", xid, self.zxid, -101)
        created, version = self.nodes[path]
        return struct.pack(">iqi", xid, self.zxid, 0) + zk.STAT.pack(created, created, 5, 5, version, 0, 0, 0, 0, 0, created)


def difference(program, bug):
    apache, ours = Toy(), Toy(bug)
    alignment = canonical.Alignment()
    judge = Judge("default", (canonical.View(alignment.ours), canonical.View()), alignment, TABLE)
    for step in program.steps:
        said = [Said([toy.answer(n, request) for n, request in enumerate(step.requests)]) for toy in (apache, ours)]
        out = judge.compare(step.requests, *said)
        if out.difference:
            return out.difference
    return None


def toy_program(n):
    requests = [Request("create", {"path": f"~/{k}"}) for k in range(5)]
    requests += [Request(op, {"path": f"~/{k % 5}", "data": b"" if k == 33 else b"x"}) for k in range(n) for op in ("setData", "exists")]
    return Program(1, 0, "default", tuple(Step("send", 0, {}, tuple(requests[k:k + 4])) for k in range(0, len(requests), 4)))


class Shrunk(unittest.TestCase):
    def test_a_planted_difference_is_found_and_its_shortest_program_too(self):
        whole = toy_program(60)
        self.assertIsNone(difference(whole, bug=False))
        found = difference(whole, bug=True)
        picks = shrink.shrunk(whole.picks(), lambda part: (again := difference(whole.only(part), True)) and again.what == found.what)
        short = [str(request) for step in whole.only(picks).steps for request in step.requests]
        self.assertEqual(short, ["create(path='~/3')", "setData(path='~/3', data=b'')"])
        # What the command line takes is the same part.
        self.assertEqual(programs.picked(programs.told(picks)), picks)

    def test_parts_of_a_step_and_the_step_itself(self):
        steps = (Step("connect", 0, {}, (Request("ping"), Request("sync"))), Step("drop"),
                 Step("send", 0, {}, (Request("ping"), Request("sync"))))
        whole = Program(1, 0, "default", steps)
        self.assertEqual(whole.picks(), [(0, None), (0, 0), (0, 1), (1, None), (2, 0), (2, 1)])
        self.assertEqual(whole.only(whole.picks()), whole)
        part = whole.only(programs.picked("0,2.1"))
        self.assertEqual([(step.do, len(step.requests)) for step in part.steps], [("connect", 0), ("send", 1)])
        self.assertEqual(whole.only(programs.picked("0.1,1")).steps, (Step("drop"),))

    def test_any_pair_is_found_and_tries_are_bounded(self):
        for pair in ((0, 1), (3, 17), (18, 19)):
            picks = shrink.shrunk(list(range(20)), lambda part: set(pair) <= set(part))
            self.assertEqual(tuple(picks), pair)
        tried = []
        shrink.shrunk(list(range(20)), lambda part: bool(tried.append(part)), tries=5)
        self.assertEqual(len(tried), 5)


class Covered(unittest.TestCase):
    def saw(self, requests, frames, newest=5, causes=None):
        seen = coverage.Coverage()
        judge = Judge("default", (canonical.View(), canonical.View()), canonical.Alignment(), TABLE)
        out = judge.compare(requests, Said(frames), Said(frames))
        seen.saw("default", out, newest, {} if causes is None else causes, "expire")
        return seen

    def test_operations_errors_and_zxids_are_counted(self):
        requests = (Request("delete", {"path": "~", "version": -1}), Request("exists", {"path": "~", "watch": 0}))
        seen = self.saw(requests, [struct.pack(">iqi", 1, 6, -111), struct.pack(">iqi", 2, 6, -101)])
        self.assertEqual(seen.cells, {"default|delete|-111": 1, "default|exists|-101": 1})
        self.assertEqual((seen.takes("delete", -111), seen.takes("exists", -101), seen.takes("exists", 0)), ("yes", "no", "·"))

    def test_results_of_a_multi_are_cells_of_their_own(self):
        body = struct.pack(">ibii", -1, 0, -103, -103) + struct.pack(">ibii", -1, 0, -2, -2) + struct.pack(">ibi", -1, 1, -1)
        seen = self.saw((Request("multi", {"ops": [("setData", {}), ("create", {})]}),), [struct.pack(">iqi", 1, 6, 0) + body])
        self.assertEqual(seen.cells, {"default|multi|0": 1, "default|multi:setData|-103": 1, "default|multi:create|-2": 1})

    def test_events_are_counted_by_what_caused_them(self):
        def event(zxid, kind):
            return struct.pack(">iqiii", -1, zxid, 0, kind, 3) + zk.text("/a")

        self.assertEqual(self.saw((), [event(6, 2)], causes={6: "delete"}).events, {"default|delete|2": 1})
        self.assertEqual(self.saw((), [event(7, 2)]).events, {"default|expire|2": 1})
        requests = (Request("setWatches", {}),)
        self.assertEqual(self.saw(requests, [event(-1, 3), struct.pack(">iqi", -8, 5, 0)]).events, {"default|setWatches|3": 1})

    def test_empty_cells_are_named_and_shown(self):
        seen = coverage.Coverage()
        cells = sum(len(coverage.expected(config)) + len(coverage.expected_events(config)) for config in coverage.ALL) + 2
        self.assertEqual(len(seen.empty()), cells)
        seen.count(seen.cells, "default", "create", -110)
        self.assertEqual(len(seen.empty()), cells - 1)
        self.assertEqual(len(seen.empty(2)), cells)
        lines = seen.table()
        self.assertTrue(any(line.startswith("| create | -110 | 1 | 0 | 0 | 0 | 0 | · |") for line in lines))
        self.assertEqual(coverage.Coverage(seen.kept()).cells, seen.cells)
        self.assertEqual(seen.compact()["errors"], {"create": {"-110": [1, 0, 0, 0, 0, 0]}})


    def test_what_configurations_have_counted_is_added_up(self):
        whole, part = coverage.Coverage(), coverage.Coverage()
        for one in (whole, part, part):
            one.count(one.cells, "default", "create", 0)
            one.count(one.events, "default", "create", 1)
        whole.zxids["create|0"], part.zxids["create|0"] = [1, 0], [2, 1]
        whole.add(part)
        self.assertEqual((whole.cells, whole.events, whole.zxids),
                         ({"default|create|0": 3}, {"default|create|1": 3}, {"create|0": [3, 1]}))

    def test_cells_that_can_not_be_reached_are_in_no_table(self):
        codes = {code for config in coverage.ALL for _, code in coverage.expected(config)}
        self.assertEqual(codes & {-1, -12, -13, -14, -112, -119, -120, -124, -127}, set())
        self.assertFalse(any(("createTTL", -125) in coverage.expected(config) for config in coverage.ALL))


class Told(unittest.TestCase):
    def test_a_transcript_shows_both_only_where_they_differ(self):
        said = report.lines([(0, 1, Request("ping"), "x", "x"), (1, 1, None, "a", "b")])
        self.assertEqual(len(said), 5)
        self.assertTrue(any("apache: a" in line for line in said))

    def test_a_program_can_be_listed(self):
        said = report.listed(generator.program(1, 0))
        self.assertIn("configuration default", said[0])


class Wire(unittest.TestCase):
    def test_requests_are_the_bytes_of_the_protocol(self):
        request = Request("create", {"path": "~", "data": b"hello", "acl": [(31, "world", "anyone")], "flags": 0})
        golden = ("00000036" "00000001" "00000001" "00000002" "2f74" "00000005" "68656c6c6f" "00000001" "0000001f" "00000005" "776f726c64"
                  "00000006" "616e796f6e65" "00000000")
        self.assertEqual(wire.frame(request, 1, "/t", None).hex(), golden)
        self.assertEqual(wire.frame(Request("closeSession"), 1, "", None).hex(), "0000000800000001fffffff5")
        self.assertEqual(wire.digest(b"bob:pw"), b"bob:ikIaKsbtGweaHnb/jKn7OHqbunM=")

    def test_bends(self):
        self.assertEqual(wire.bent(b"abcdef", ("cut", 2)), b"ab")
        self.assertEqual(wire.bent(b"ab", ("cut", 9)), b"a")
        self.assertEqual(wire.bent(b"abcdef", ("put", 1, -1)), b"a\xff\xff\xff\xfff")
        self.assertEqual(wire.bent(b"ab", ("tail", b"x")), b"abx")



if __name__ == "__main__":
    unittest.main()
