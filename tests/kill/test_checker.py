"""The checker finds each kind of loss in a history made by hand."""

import unittest

from checker import check


def op(kind, path, zxid=None, **more):
    return {"kind": kind, "client": more.pop("client", 0), "session": more.pop("session", 1), "path": path,
            "data": more.pop("data", b"d"), "acked": zxid is not None, "zxid": zxid, "version": 1, **more}


def node(czxid, mzxid=None, data=b"d", version=1, owner=0):
    return data, {"czxid": czxid, "mzxid": mzxid or czxid, "version": version, "ephemeralOwner": owner}


class Checker(unittest.TestCase):
    def finds(self, what, history, final, live=(1,), dead=(), last=100):
        wrong = check(history, final, set(live), set(dead), last)
        self.assertTrue(any(what in w for w in wrong), wrong)

    def test_a_good_history(self):
        history = [op("create", "/a", 1), op("set", "/a", 2), op("delete", "/b", 3), op("set", "/a"),
                   {**op("multi", None, 5), "paths": ["/m1", "/m2"]},
                   op("create", "/e", 6, ephemeral=True, session=9)]
        final = {"/a": node(1, 7, b"other", 2), "/m1": node(5), "/m2": node(5)}
        self.assertEqual(check(history, final, {1}, {9}, 7), [])

    def test_losses(self):
        self.finds("missing", [op("create", "/a", 1)], {})
        self.finds("older", [op("create", "/a", 1), op("set", "/a", 5)], {"/a": node(1)})
        self.finds("other data", [op("set", "/a", 5)], {"/a": node(1, 5, b"x")})
        self.finds("has version", [op("set", "/a", 5)], {"/a": node(1, 5, version=9)})
        self.finds("is back", [op("create", "/a", 1), op("delete", "/a", 5)], {"/a": node(1)})
        self.finds("by nobody", [op("set", "/a", 5)], {"/a": node(1, 8)})
        self.finds("the server is at", [op("create", "/a", 200)], {"/a": node(200)})

    def test_multis_sequences_sessions_and_zxids(self):
        multi = {**op("multi", None), "paths": ["/m1", "/m2"]}
        self.finds("half a multi", [multi], {"/m1": node(1)})
        self.finds("an acknowledged multi", [{**multi, "acked": True, "zxid": 3}], {})
        first, again = op("create", "/s/n-0000000004", 1, seq="/s/n-"), op("create", "/s/n-0000000004", 9, seq="/s/n-")
        self.finds("do not grow", [first, again], {"/s/n-0000000004": node(9)})
        self.finds("is left of session", [], {"/e": node(1, owner=9)}, dead=[9])
        self.finds("acknowledged twice", [op("create", "/a", 1), op("create", "/b", 1, client=1)], {"/a": node(1), "/b": node(1)})
        self.finds("does not follow", [op("create", "/a", 5), op("create", "/b", 4)], {"/a": node(5), "/b": node(4)})


if __name__ == "__main__":
    unittest.main()
