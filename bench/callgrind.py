"""Instructions of an operation, counted by callgrind over `rk instructions`."""

import re
import shutil
import subprocess
import sys


def wanted():
    if not shutil.which("valgrind"):
        sys.exit("valgrind is missing: install it (apt-get install valgrind), and try again")


def per_operation(rk, arguments, operations):
    """Of two runs, the longer one less the shorter one: what a start costs is in neither."""
    counted = []
    for n in (operations, 2 * operations):
        command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", rk, "instructions", *arguments, "--operations", n]
        ended = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
        if ended.returncode:
            sys.exit(f"{' '.join(map(str, command))}: {ended.stderr[-2000:]}")
        counted.append(collected(ended.stderr))
    return (counted[1] - counted[0]) / operations


def collected(said):
    """The total in callgrind's last words."""
    return int(re.search(r"Collected : (\d+)", said).group(1))
