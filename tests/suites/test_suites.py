"""Checks of the runner: what is left out, how reports are read, and that README.md shows the plan."""

import importlib.machinery
import importlib.util
import pathlib
import sys
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import adapters  # noqa: E402
import plan  # noqa: E402


def runner():
    """The program `run`, which has no ending, as a module."""
    text = (HERE / "run").read_text().removesuffix("sys.exit(main())\n")
    module = importlib.util.module_from_spec(importlib.machinery.ModuleSpec("runner", None, origin=str(HERE / "run")))
    module.__file__ = str(HERE / "run")
    exec(compile(text, str(HERE / "run"), "exec"), module.__dict__)  # noqa: S102
    return module


RUN = runner()


class Plan(unittest.TestCase):
    def test_readme_shows_the_plan(self):
        self.assertEqual(RUN.README.read_text(), RUN.readme(), "run tests/suites/run --tables")

    def test_every_reason_is_one_of_the_table_and_every_suite_exists(self):
        for suite, _, _, reason in plan.RULES:
            self.assertIn(suite, adapters.SUITES)
            self.assertTrue(reason == plan.RUNS or reason in plan.REASONS, reason)
        self.assertEqual(set(plan.REASONS), {reason for *_, reason in plan.RULES} - {plan.RUNS})

    def test_the_first_rule_of_a_test_holds_and_a_test_without_one_runs(self):
        self.assertEqual(plan.verdict("zookeeper", "server.CreateTTLTest", "testMulti"), "inside")
        self.assertEqual(plan.verdict("zookeeper", "server.CreateTTLTest", "testBadTTLs"), plan.RUNS)
        self.assertEqual(plan.verdict("zookeeper", "server.DataTreeTest", "anything"), "inside")
        self.assertEqual(plan.verdict("zookeeper", "test.ANewTest", "anything"), plan.RUNS)

    def test_a_unit_with_a_rule_for_all_its_tests_is_left_out_as_a_whole(self):
        self.assertEqual(plan.left_out("zookeeper", "test.QuorumTest"), ["*"])
        self.assertEqual(plan.left_out("zookeeper", "test.CheckTest"), ["testCluster*"])
        self.assertNotIn("*", plan.left_out("zookeeper", "server.CreateTTLTest"))

    def test_a_failure_is_explained_on_the_side_that_the_row_names(self):
        rows, plan.EXPLAINED = plan.EXPLAINED, [("kazoo", "test_x", "T::*", "ours", "because")]
        try:
            self.assertEqual(plan.explained("kazoo", "test_x", "T::a", "ours"), "because")
            self.assertIsNone(plan.explained("kazoo", "test_x", "T::a", "apache"))
            self.assertIsNone(plan.explained("kazoo", "test_y", "T::a", "ours"))
        finally:
            plan.EXPLAINED = rows


class Report(unittest.TestCase):
    def test_a_failure_counts_whatever_else_is_said_of_its_test(self):
        text = "started\ta\t0\t\npassed\ta\t1.5\t\nfailed\ta\t0.1\tteardown\npassed\ta\t0.1\t\n"
        self.assertEqual(adapters.parse(text, "exit code 0"), {"a": ("failed", 0.1, "teardown")})

    def test_a_test_that_did_not_end_has_failed(self):
        text = "started\ta\t0\t\npassed\ta\t1.5\t\nstarted\tb\t0\t\n"
        results = adapters.parse(text, "killed after 1800 s")
        self.assertEqual(results["a"][0], "passed")
        self.assertEqual(results["b"], ("failed", 0.0, "did not end: killed after 1800 s"))

    def test_a_failure_that_passes_when_run_again_is_unsteady_and_another_stays(self):
        first = {"a": ("failed", 1.0, "x"), "b": ("failed", 1.0, "y"), "c": ("passed", 1.0, "")}
        merged = RUN.once_more(first, {"a": ("passed", 1.0, ""), "b": ("failed", 2.0, "z")})
        self.assertEqual([merged[test][0] for test in "abc"], ["unsteady", "failed", "passed"])

    def test_counts_tell_unsteady_and_explained_apart(self):
        progress = RUN.Progress(adapters.Kazoo(), adapters.Side("0"), False)
        rows, plan.EXPLAINED = plan.EXPLAINED, [("kazoo", "u", "b", "ours", "because")]
        try:
            progress.add("u", {"a": ("unsteady", 1, ""), "b": ("failed", 1, ""), "c": ("failed", 1, ""), "d": ("skipped", 0, "")}, 3)
            self.assertEqual(progress.counts(), {"tests": 4, "passed": 1, "unsteady": 1, "failed": 2, "explained": 1, "skipped": 1})
        finally:
            plan.EXPLAINED = rows


class Sides(unittest.TestCase):
    def test_a_side_names_its_server_and_hides_what_a_build_machine_sets(self):
        place = pathlib.Path("place")
        ours, apache = adapters.Side("2").environment(place), adapters.Side("apache").environment(place)
        self.assertEqual((ours["SUITES_SIDE"], ours["RK_SHARDS"], apache["SUITES_SIDE"]), ("ours", "2", "apache"))
        self.assertNotIn("CI", ours)

    def test_our_classes_are_absent_on_the_side_of_apache(self):
        suite = adapters.Curator()
        path = lambda side: suite.command("a.TestB", adapters.Side(side), 0, "p", "r", None)[0]  # noqa: E731
        self.assertIn(str(suite.classes / "ours"), path("0")[path("0").index("-cp") + 1])
        self.assertNotIn(str(suite.classes / "ours"), path("apache")[path("apache").index("-cp") + 1])


if __name__ == "__main__":
    unittest.main()
