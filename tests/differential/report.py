"""What a run prints."""

import sys

import coverage as cells
import explained
from explained import TABLE
from program import short
from progress import EVIDENCE
from sides import OBSERVER

# Times that each cell of the coverage table is to be reached by a run that is evidence.
ENOUGH = 100


def listed(program):
    """A program, a line for each step and request."""
    lines = [f"program {program.number} of seed {program.seed}, configuration {program.config}, in {program.root()}"]
    for n, step in enumerate(program.steps):
        lines.append(f"{n:3} {step}")
        lines += [f"    {n}.{k} {request}" for k, request in enumerate(step.requests)]
    return lines


def lines(transcript):
    """A line for what both have said alike; two lines where they differ. What the observers agree on is left out."""
    made = []
    for at, slot, request, apache, ours in transcript:
        if apache == ours and slot == OBSERVER:
            continue
        asked = f"{request}" if request is not None else "(nothing asked)"
        made.append(f"{at:3} s{slot} {asked}" if isinstance(slot, int) else f"{at:3} {slot or ''} {asked}")
        if apache == ours:
            made.append(f"      both:   {short(apache, 220)[1:-1]}")
        else:
            made += [f"      apache: {apache}", f"      ours:   {ours}"]
    return made


def difference(program, found, command, is_whole):
    print(f"\nDIFFERENT: {found.what} (program {program.number}, configuration {program.config}, step {found.step})")
    if is_whole:
        print("\n".join(lines(found.lines)))
        if not found.lines or (found.apache, found.ours) != found.lines[-1][-2:]:
            print(f"      apache: {found.apache}\n      ours:   {found.ours}")
    print(f"  again: {command}", flush=True)


def so_far(done, state, programs, seconds):
    left = seconds / done * (programs - done) if done else 0
    print(f"differential: {done} of {programs} programs, {len(state['red'])} unexplained, {seconds:.0f} s, about {left:.0f} s left",
          file=sys.stderr, flush=True)


def finish(state, coverage, is_table):
    if is_table:
        print("\n## Coverage, by what Apache said\n")
        print("\n".join(coverage.table()))
        empty = coverage.empty()
        print(f"\n{len(empty)} cells were not reached{': ' if empty else ''}{', '.join(empty)}")
        poor = coverage.empty(ENOUGH)
        print(f"{len(poor)} cells were reached fewer than {ENOUGH} times{': ' if poor else ''}{', '.join(poor) if state['done'] >= EVIDENCE else ''}")
    print("\n## Explained differences\n")
    for row in TABLE:
        print(f"{state['rows'].get(row.name, 0):7} {row.name}: {row.reason}")
    classes = {}
    for one in state["red"]:
        classes.setdefault(one["what"], []).append(one)
    if classes:
        print("\n## Unexplained differences\n")
        for what, ones in sorted(classes.items(), key=lambda item: -len(item[1])):
            print(f"{len(ones):7} {what}\n        {ones[0]['command']}")
    print(f"\n{state['operations']} operations in {state['seconds']:.0f} s")


def differences():
    """docs/differences.md."""
    return DIFFERENCES.format(table="\n".join(explained.table()), unreachable="\n".join(cells.unreachable()))


DIFFERENCES = """# What the comparison with Apache's server explains

`tests/differential/run` executes programs of random requests on Apache ZooKeeper 3.9.5 and on Ringkeeper, and compares
everything that a client sees. Each difference that it finds is either mended or a row of this table, which is printed by
`tests/differential/run --table` from what the tool itself uses; the tool counts how often each row has applied.
[protocol.md](protocol.md) §10 lists all differences for users, those included that this comparison can't show.

{table}

## What the comparison does not reach

Its coverage table counts each operation with each error code that a standalone server can give, under the
configurations default, `enforceQuota`, `extendedTypesEnabled`, `localSessionsEnabled` and `reconfigEnabled`. Not in it:

{unreachable}
"""
