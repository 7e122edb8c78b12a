"""Runs tests of a binary of Rust one after the other, each in a process of its own with a limit, and reports a line of
outcome, test, seconds and reason for each.

    rust_tests.py REPORT BINARY SECONDS TEST…"""

import subprocess
import sys
import time


def main():
    report, binary, limit, *tests = sys.argv[1:]
    with open(report, "a", buffering=1) as lines:
        for test in tests:
            lines.write(f"started\t{test}\t0\t\n")
            began = time.monotonic()
            try:
                done = subprocess.run([binary, "--exact", test, "--nocapture"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                      stderr=subprocess.STDOUT, timeout=float(limit), check=False)
                said = done.stdout.decode(errors="replace")
                outcome = "failed" if done.returncode else "skipped" if " 1 ignored" in said else "passed"
            except subprocess.TimeoutExpired as e:
                outcome, said = "failed", f"{(e.stdout or b'').decode(errors='replace')} no end within {limit} s"
            panic = said[max(0, said.find("panicked at")):] if outcome == "failed" else ""
            lines.write(f"{outcome}\t{test}\t{time.monotonic() - began:.1f}\t{' '.join(panic.split())[:600]}\n")


main()
