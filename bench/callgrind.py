"""Instructions of an operation, counted by callgrind over `rk instructions`."""

import re
import shutil
import subprocess
import sys


def wanted():
    if not shutil.which("valgrind"):
        sys.exit("valgrind is missing: install it (apt-get install valgrind), and try again")


# Everything that the server does for requests that have come; the requests are made outside.
SERVER = "ringkeeper::sim::instructions::Member::settle"


def per_operation(rk, arguments, operations, inside=None):
    """Of two runs, the longer one less the shorter one: what a start costs is in neither. `inside`: a function, for
    what happens within it alone."""
    counted = []
    only = ["--collect-atstart=no", f"--toggle-collect={inside}"] if inside else []
    for n in (operations, 2 * operations):
        command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *only, rk, "instructions", *arguments, "--operations", n]
        ended = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
        if ended.returncode:
            sys.exit(f"{' '.join(map(str, command))}: {ended.stderr[-2000:]}")
        counted.append(collected(ended.stderr))
    if counted[1] <= counted[0]:
        sys.exit(f"{rk}: no function {inside}: build rk with debug information, as the release profile has it")
    return (counted[1] - counted[0]) / operations


def collected(said):
    """The total in callgrind's last words."""
    return int(re.search(r"Collected : (\d+)", said).group(1))
