"""What is compared, on bytes that no server has sent: what is normalised stays equal, everything beside it is found,
and each row of the table explains its own difference and not the next one."""

import pathlib
import struct
import sys
import unittest

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent)]

import canonical
import report
import wire
from compare import Judge, Said
from explained import TABLE
from program import Request
from wire import zk

A_SESSION, B_SESSION = 0x100000000000001, 0x100000000000077
WORLD = (31, "world", "anyone")


def stat(zxid=5, time=1000, version=0, owner=0, children=0):
    return zk.STAT.pack(zxid, zxid, time, time, version, 0, 0, owner, 1, children, zxid)


def reply(xid, zxid, err=0, body=b""):
    return struct.pack(">iqi", xid, zxid, err) + body


def event(zxid, kind, path):
    return struct.pack(">iqiii", -1, zxid, 0, kind, 3) + zk.text(path)


def names(*some):
    return struct.pack(">i", len(some)) + b"".join(map(zk.text, some))


def mark(zxid):
    return reply(wire.MARK_XID, zxid, 0, zk.text("/"))


def multi(*codes):
    results = b"".join(struct.pack(">ibii", -1, 0, code, code) for code in codes)
    return results + struct.pack(">ibi", -1, 1, -1)


GET = Request("getData", {"path": "~/a", "watch": 1})
LIST = Request("getChildren", {"path": "~/a", "watch": 0})
ACL = Request("getACL", {"path": "~/a"})
SET = Request("setData", {"path": "~/a", "data": b"x", "version": -1})
CREATE = {"path": "~/a", "data": b"", "acl": [WORLD], "flags": 0}


class Compared(unittest.TestCase):
    def setUp(self):
        self.alignment, self.expansions = canonical.Alignment(), []
        views = canonical.View(self.alignment.ours, self.expansions), canonical.View(expansions=self.expansions)
        views[0].sessions[A_SESSION] = views[1].sessions[B_SESSION] = "session 1"
        self.judge = Judge("default", views, self.alignment, TABLE)

    def compare(self, requests, apache, ours, **how):
        apache, ours = (one if isinstance(one, Said) else Said(one) for one in (apache, ours))
        return self.judge.compare(tuple(requests), apache, ours, **how)

    def same(self, requests, apache, ours, **how):
        out = self.compare(requests, apache, ours, **how)
        self.assertIsNone(out.difference)
        self.assertEqual(out.rows, [])

    def different(self, requests, apache, ours, **how):
        out = self.compare(requests, apache, ours, **how)
        self.assertIsNotNone(out.difference)
        return out.difference


class Normalised(Compared):
    def test_times_and_session_ids_are_not_compared(self):
        self.same([GET], [reply(1, 7, 0, zk.buf(b"x") + stat(time=1, owner=A_SESSION))],
                  [reply(1, 7, 0, zk.buf(b"x") + stat(time=2, owner=B_SESSION))])

    def test_whether_there_is_a_time_and_whose_session_it_is_are_compared(self):
        for other in (stat(time=0), stat(owner=B_SESSION), stat(owner=B_SESSION + 1), stat(version=1), stat(zxid=6), stat(children=1)):
            self.different([GET], [reply(1, 7, 0, zk.buf(b"x") + stat())], [reply(1, 7, 0, zk.buf(b"x") + other)])
        self.different([GET], [reply(1, 7, 0, zk.buf(b"x") + stat(owner=A_SESSION))],
                       [reply(1, 7, 0, zk.buf(b"x") + stat(owner=A_SESSION))])

    def test_data_headers_and_bytes_behind_a_body_are_compared(self):
        whole = reply(1, 7, 0, zk.buf(b"") + stat())
        for other in (reply(1, 7, 0, zk.buf(None) + stat()), reply(2, 7, 0, zk.buf(b"") + stat()), reply(1, 8, 0, zk.buf(b"") + stat()),
                      reply(1, 7, -101), whole + b"\0", whole[:-1], reply(1, 7)):
            self.different([GET], [whole], [other])

    def test_the_order_of_names_is_free_and_their_number_is_not(self):
        self.same([LIST], [reply(1, 7, 0, names("a", "b", "c"))], [reply(1, 7, 0, names("c", "a", "b"))])
        for other in (names("a", "b"), names("a", "b", "b"), names("a", "b", "d"), names("a", "b", "c", "c")):
            self.different([LIST], [reply(1, 7, 0, names("a", "b", "c"))], [reply(1, 7, 0, other)])

    def test_the_order_of_replies_is_not_free(self):
        self.different([GET, SET], [reply(1, 7, -101), reply(2, 7, -101)], [reply(2, 7, -101), reply(1, 7, -101)])

    def test_the_order_of_an_acl_is_free_where_auth_made_it_and_nowhere_else(self):
        one, two, three = (31, "digest", "u1:h1"), (31, "digest", "u2:h2"), (1, "ip", "127.0.0.1")

        def said(*entries):
            return [reply(1, 7, 0, zk.acl(*entries) + stat())]

        self.different([ACL], said(one, two), said(two, one))
        self.expansions += canonical.expansions_of([(31, "auth", "")], {b"u1:h1", b"u2:h2"})
        self.same([ACL], said(one, two, three), said(two, one, three))
        self.same([ACL], said(three, one, two), said(three, two, one))
        self.same([ACL], said((31, "digest", "u1:x"), (31, "digest", "u2:x")), said((31, "digest", "u2:x"), (31, "digest", "u1:x")))
        for other in ((three, one, two), (one, two), (two, two, three), (one, (30, "digest", "u2:h2"), three)):
            self.different([ACL], said(one, two, three), said(*other))

    def test_events_of_the_end_of_a_session_have_no_order_within_its_zxid(self):
        first, second = event(9, 2, "/d/a"), event(9, 2, "/d/b")
        self.same([], [first, second, mark(9)], [second, first, mark(9)], is_ending=True)
        self.different([], [first, second, mark(9)], [second, first, mark(9)])
        for other in ([first], [first, first], [first, event(9, 4, "/d/b")], [second, event(8, 2, "/d/a")]):
            self.different([], [first, second, mark(9)], [*other, mark(9)], is_ending=True)

    def test_place_content_and_zxid_of_events_are_compared(self):
        said = [event(7, 3, "/d/a"), reply(1, 7, 0, stat())]
        self.same([SET], said, said)
        for other in (said[::-1], said[1:], [said[0], *said], [event(8, 3, "/d/a"), said[1]], [event(7, 2, "/d/a"), said[1]],
                      [event(7, 3, "/d/b"), said[1]]):
            self.different([SET], said, other)

    def test_the_end_of_a_connection_and_the_zxid_of_the_mark_are_compared(self):
        said = [reply(1, 7, -101)]
        self.different([SET], Said(said, is_closed=True), Said(said))
        self.different([SET], Said(said, is_silent=True), Said(said))
        self.different([SET], [*said, mark(7)], [*said, mark(8)])
        self.different([SET], Said([], is_closed=True), Said(said, is_closed=True))

    def test_results_of_a_multi_are_compared_one_by_one(self):
        request = Request("multi", {"ops": [("setData", SET.args)] * 2})
        self.same([request], [reply(1, 7, 0, multi(-101, -2))], [reply(1, 7, 0, multi(-101, -2))])
        for other in (multi(-101), multi(0, -101), multi(-101, -101), multi(-101, -2) + b"x"):
            self.different([request], [reply(1, 7, 0, multi(-101, -2))], [reply(1, 7, 0, other)])


class Aligned(Compared):
    def test_older_zxids_keep_their_names(self):
        self.alignment.moved(10, 9)
        self.alignment.moved(20, 18)
        self.assertEqual([self.alignment.ours(z) for z in (-1, 0, 5, 10, 11, 20, 21)], [-1, 0, 5, 9, 10, 18, 19])
        self.alignment.moved(15, 15)
        self.assertEqual([self.alignment.ours(z) for z in (15, 16, 21)], [15, 16, 21])

    def test_names_lead_back_to_the_newest_zxid_of_apache_that_has_them(self):
        self.alignment.moved(10, 9)
        self.alignment.moved(20, 18)
        for ours, apache in ((-1, -1), (0, 0), (5, 5), (8, 8), (9, 10), (10, 11), (17, 18), (18, 20), (19, 21)):
            self.assertEqual(self.alignment.apache(ours), apache)

    def test_an_explained_zxid_moves_what_follows_in_the_same_batch(self):
        bad = Request("create", {**CREATE, "path": None})
        out = self.compare([bad, SET], [reply(1, 7, -5), reply(2, 8, 0, stat(zxid=8)), mark(8)],
                           [reply(1, 6, -5), reply(2, 7, 0, stat(zxid=7)), mark(7)])
        self.assertIsNone(out.difference)
        self.assertEqual(out.rows, ["8 unparsable takes a zxid"])
        self.same([GET], [reply(4, 7, -101)], [reply(4, 6, -101)])
        self.same([GET], [reply(3, 8, 0, zk.buf(b"") + stat(zxid=8)), mark(8)], [reply(3, 7, 0, zk.buf(b"") + stat(zxid=7)), mark(7)])

    def test_it_moves_by_no_more_than_the_row_says_and_never_the_other_way(self):
        bad = Request("create", {**CREATE, "path": None})
        self.different([bad], [reply(1, 8, -5)], [reply(1, 6, -5)])
        self.different([bad], [reply(1, 6, -5)], [reply(1, 7, -5)])


class Explained(Compared):
    def different(self, *what, **how):
        # Nothing of what was explained before.
        self.setUp()
        return super().different(*what, **how)

    def explained(self, row, request, apache, ours):
        self.setUp()
        out = self.compare([request], apache, ours)
        self.assertIsNone(out.difference)
        self.assertEqual([name.split()[0] for name in out.rows], [row])
        return out

    def test_null_in_an_acl(self):
        request = Request("create", {**CREATE, "acl": [(31, "digest", None)]})
        self.explained("5", request, [reply(1, 7, -5)], [reply(1, 7, -114)])
        self.different([request], [reply(1, 7, -5)], [reply(1, 7, -101)])
        self.different([Request("create", CREATE)], [reply(1, 7, -5)], [reply(1, 7, -114)])
        self.explained("5", Request("multi", {"ops": [("create", request.args)]}), [reply(1, 7, -5)], [reply(1, 7, 0, multi(-114))])
        # Apache has come to it, because it takes what stands before it for a plain create.
        plain = ("createTTL", {**CREATE, "ttl": 1000})
        both = Request("multi", {"ops": [plain, ("create", request.args)]})
        self.explained("5", both, [reply(1, 7, -5)], [reply(1, 7, 0, multi(-8, -2))])
        self.different([both], [reply(1, 7, -5)], [reply(1, 7, 0, multi(-101, -2))])

    def test_what_a_multi_with_a_null_in_an_acl_leaves_to_what_is_behind_it(self):
        bad = Request("multi", {"ops": [("create", {**CREATE, "path": "~/a/b", "acl": [(31, "digest", None)]})]})
        said = [reply(1, 7, -5)], [reply(1, 7, 0, multi(-114))]
        delete = Request("delete", {"path": "~/a/b", "version": -1})
        out = self.compare([bad, delete], [*said[0], reply(2, 8)], [*said[1], reply(2, 8, -101)])
        self.assertIsNone(out.difference)
        self.assertTrue(out.must_end)
        other = Request("delete", {"path": "~/c/b", "version": -1})
        self.different([bad, other], [*said[0], reply(2, 8)], [*said[1], reply(2, 8, -101)])
        good = Request("multi", {"ops": [("create", CREATE)]})
        self.different([good, delete], [reply(1, 7, 0, multi(-114)), reply(2, 8)], [reply(1, 7, 0, multi(-114)), reply(2, 8, -101)])

    def test_null_in_set_watches_drops_the_connection(self):
        request = Request("setWatches", {"relative": "zero", "data": ["~", None], "exist": [], "child": []})
        said = [event(-1, 3, "/d"), reply(-8, 7, -5)]
        self.assertTrue(self.explained("6", request, said, [reply(-8, 7, -5)]).must_drop)
        plain = Request("setWatches", {"relative": "zero", "data": ["~"], "exist": [], "child": []})
        self.different([plain], said, [reply(-8, 7, -5)])
        self.different([request], [reply(-8, 7, -5)], said)
        # What comes before the null is watched all the same, though nothing was said of it.
        self.assertTrue(self.explained("6", request, [reply(-8, 7, -5)], [reply(-8, 7, -5)]).must_drop)
        self.same([plain], [reply(-8, 7, -5)], [reply(-8, 7, -5)])

    def test_negative_counts(self):
        request = Request("setACL", {"path": "~", "acl": -2, "version": -1})
        self.explained("7", request, [reply(1, 7, -114)], [reply(1, 6, -5)])
        for err in (0, -101, -102):
            self.different([request], [reply(1, 7, err)], [reply(1, 6, -5)])
        self.different([Request("setACL", {"path": "~", "acl": [], "version": -1})], [reply(1, 7, -114)], [reply(1, 7, -5)])
        ops = Request("multi", {"ops": [("create", {**CREATE, "acl": -2})]})
        self.explained("7", ops, [reply(1, 7, 0, multi(-114))], [reply(1, 6, -5)])
        self.different([ops], [reply(1, 7, 0, multi(0))], [reply(1, 6, -5)])
        watches = Request("setWatches", {"relative": "zero", "data": -2, "exist": ["~"], "child": []})
        self.assertTrue(self.explained("7", watches, [event(-1, 1, "/d"), reply(1, 7)], [reply(1, 7, -5)]).must_drop)

    def test_what_can_not_be_parsed_takes_a_zxid_for_writes_alone(self):
        self.explained("8", Request("delete", {"path": None, "version": -1}), [reply(1, 7, -5)], [reply(1, 6, -5)])
        self.different([SET], [reply(1, 7, -5)], [reply(1, 6, -5)])
        self.different([Request("delete", {"path": None, "version": -1})], [reply(1, 7, -5, b"x")], [reply(1, 6, -5)])
        self.different([Request("create", CREATE)], [reply(1, 7, -5)], [reply(1, 6, -5)])
        self.different([Request("create", CREATE, bend=("cut", 3))], [reply(1, 7, -5)], [reply(1, 6, -5)])

    def test_a_multi_that_can_not_be_parsed_takes_a_zxid_and_one_that_can_does_not(self):
        for ops, more in (([("getData", {"path": "~", "watch": 0})], {}), ([("create", {**CREATE, "flags": 5})], {}),
                          ([("create", {**CREATE, "acl": None})], {}), ([("check", {"path": None, "version": 0})], {}),
                          ([("setData", SET.args)], {"ended": False})):
            self.explained("8", Request("multi", {"ops": ops, **more}), [reply(1, 7, -5)], [reply(1, 6, -5)])
        self.explained("8", Request("multi", {"ops": []}, bend=("cut", 3)), [reply(1, 7, -5)], [reply(1, 6, -5)])
        for op, args in (("setData", SET.args), ("create", {**CREATE, "flags": 4}), ("createTTL", {**CREATE, "flags": 9, "ttl": 1})):
            self.different([Request("multi", {"ops": [(op, args)]})], [reply(1, 7, -5)], [reply(1, 6, -5)])

    def test_null_path_and_odd_flags(self):
        self.explained("10", Request("create", {**CREATE, "path": None, "flags": 9}), [reply(1, 7, -8)], [reply(1, 6, -5)])
        self.different([Request("create", {**CREATE, "flags": 9})], [reply(1, 7, -8)], [reply(1, 6, -5)])
        self.different([Request("create", {**CREATE, "path": None})], [reply(1, 7, -8)], [reply(1, 6, -5)])

    def test_auth_that_is_cut_off(self):
        request = Request("auth", {"scheme": "digest", "auth": b"u:p"}, bend=("cut", 5))
        out = self.explained("13", request, Said([], is_closed=True), [reply(1, 0, -5)])
        self.assertTrue(out.must_drop)
        self.different([Request("auth", request.args)], Said([], is_closed=True), [reply(1, 0, -5)])

    def test_texts_that_java_writes_otherwise(self):
        request = Request("sync", {"path": "~/\U0001f600"})
        surrogates = zk.buf("/d/\U0001f600".encode("utf-16",
                                                   "surrogatepass").decode("utf-16").encode().replace(b"\xf0\x9f\x98\x80", b"\xed\xa0\xbd\xed\xb8\x80"))
        self.explained("15", request, [reply(1, 7, 0, surrogates)], [reply(1, 7, 0, zk.text("/d/\U0001f600"))])
        self.different([request], [reply(1, 7, 0, surrogates)], [reply(1, 7, 0, zk.text("/d/\U0001f601"))])
        marks, ours = [reply(1, 7, 0, zk.text("/d/\ufffd\ufffd"))], [reply(1, 7, 0, zk.text("/d/\U0001f600"))]
        self.explained("15", request, marks, ours)
        self.different([request], [reply(1, 7, 0, zk.text("/d/\ufffd"))], ours)
        self.different([request], ours, marks)
        # As many marks as Java makes.
        self.different([request], [reply(1, 7, 0, zk.text("/d/\ufffd"))], [reply(1, 7, 0, zk.text("/d/\ufffd\ufffd\ufffd"))])

    def test_a_write_behind_set_acl_ends_the_program(self):
        before = Request("setACL", {"path": "~/a", "acl": [WORLD], "version": -1})
        first = reply(1, 6, 0, stat())
        out = self.compare([before, SET], [first, reply(2, 7, -102)], [first, reply(2, 7, 0, stat())])
        self.assertEqual((out.difference, out.must_end), (None, True))
        self.different([SET], [reply(2, 7, -102)], [reply(2, 7, 0, stat())])

    def test_a_ttl_without_ttl_flags_in_a_multi(self):
        ops = [("createTTL", {**CREATE, "ttl": 1000}), ("check", {"path": "~/never", "version": 0})]
        request = Request("multi", {"ops": ops})
        self.explained("18", request, [reply(1, 7, 0, multi(0, -101))], [reply(1, 7, 0, multi(-8, -2))])
        self.explained("18", request, [reply(1, 7, 0, multi(-110, -2))], [reply(1, 7, 0, multi(-8, -2))])
        for apache, ours in (((0, -103), (0, -101)), ((0, -101), (-6, -2)), ((-101, -2), (0, -101))):
            self.different([request], [reply(1, 7, 0, multi(*apache))], [reply(1, 7, 0, multi(*ours))])
        plain = Request("multi", {"ops": [("create", CREATE), ops[1]]})
        self.different([plain], [reply(1, 7, 0, multi(0, -101))], [reply(1, 7, 0, multi(-8, -2))])

    def test_limits_that_can_not_be_read(self):
        limits = Request("create", {**CREATE, "path": "/zookeeper/quota~/a/zookeeper_limits", "data": None})
        said = [reply(1, 7, -5)], [reply(1, 7, 0, zk.text("/d/a/b"))]

        def below(path, config="quota", first=limits):
            self.setUp()
            self.judge.config = config
            self.compare([first], [reply(1, 6, -110)], [reply(1, 6, -110)])
            return self.compare([Request("create", {**CREATE, "path": path})], *said)

        for path in ("~/a", "~/a/b"):
            out = below(path)
            self.assertEqual((out.difference, out.must_end), (None, True))
        text = Request("create", {**limits.args, "data": b"count=1,bytes=1"})
        for out in (below("~/ab"), below("~"), below("~/a", config="default"), below("~/a", first=text)):
            self.assertIsNotNone(out.difference)

    def test_what_servers_alone_may_send(self):
        request = Request("deleteContainer", {"path": "~/never"})
        out = self.explained("from", request, [reply(1, 7, -101)], Said([reply(1, -1, -6)], is_closed=True))
        self.assertTrue(out.must_drop)
        self.different([Request("unknown", {"number": 99})], [reply(1, 7, -101)], Said([reply(1, -1, -6)], is_closed=True))

    def test_an_end_that_was_overtaken(self):
        """As CI met it, program 122 of seed 1: drop, reattach, reattach."""
        def row(apache, ours, **args):
            groups = [canonical.Group(None, [], canonical.Reply(0, 0, 0, err, ())) for err in (apache, ours)]
            return [row.name for row in TABLE if row.explains("default", (Request("attach", args),), 0, *groups)]

        self.assertEqual(row("open", "closed", has_overtaken=True), ["overtaken end"])
        for difference in (row("open", "closed", has_overtaken=False), row("closed", "open", has_overtaken=True), row("open", "closed")):
            self.assertEqual(difference, [])

    def test_rows_have_a_name_and_a_reason_each(self):
        self.assertEqual(len({row.name for row in TABLE}), len(TABLE))
        self.assertTrue(all(row.asked and row.apache and row.ours and row.reason for row in TABLE))

    def test_the_documents_list_these_rows(self):
        text = (pathlib.Path(__file__).resolve().parents[2] / "docs" / "differences.md").read_text()
        self.assertEqual(text, report.differences(), "print it with tests/differential/run --table")


if __name__ == "__main__":
    unittest.main()
