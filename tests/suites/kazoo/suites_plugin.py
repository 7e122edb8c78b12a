"""The plug-in for pytest by which kazoo's own tests run on our server or on Apache's: it puts `cluster` in the place of
`kazoo.testing.common`, leaves out what the runner names in SUITES_LEFT_OUT (or keeps only what SUITES_ONLY names), and
writes outcome, test, seconds and reason, with tabs between, into the file SUITES_REPORT."""

import fnmatch
import json
import os
import sys

import cluster

sys.modules["kazoo.testing.common"] = cluster


def name(nodeid):
    """The test without the path of its module."""
    return nodeid.split("::", 1)[1] if "::" in nodeid else "(set-up)"


def say(outcome, nodeid, seconds, reason=""):
    with open(os.environ["SUITES_REPORT"], "a") as report:
        report.write(f"{outcome}\t{name(nodeid)}\t{seconds:.1f}\t{' '.join(reason.split())[-600:]}\n")


def pytest_collection_modifyitems(config, items):
    left_out = json.loads(os.environ.get("SUITES_LEFT_OUT", "[]"))
    only = json.loads(os.environ.get("SUITES_ONLY", "null"))
    kept = []
    for item in items:
        test = name(item.nodeid)
        if only is not None and test not in only or any(fnmatch.fnmatchcase(test, pattern) for pattern in left_out):
            config.hook.pytest_deselected(items=[item])
        else:
            kept.append(item)
    items[:] = kept


def pytest_runtest_logstart(nodeid, location):
    say("started", nodeid, 0)


def pytest_runtest_logreport(report):
    reason = str(report.longrepr) if report.longrepr else ""
    if report.failed:
        say("failed", report.nodeid, report.duration, f"{report.when}: {reason}")
    elif report.skipped:
        say("skipped", report.nodeid, report.duration, reason)
    elif report.when == "call":
        say("passed", report.nodeid, report.duration)


def pytest_collectreport(report):
    if report.failed:
        say("failed", report.nodeid, 0, str(report.longrepr))
