"""Whether both servers have said the same for one step on one connection.

`Said` is what a server said; `compare` gives the rows of the table that explain what is different, and the first
difference that no row explains."""

from dataclasses import dataclass, field

import canonical


@dataclass
class Said:
    """Frames up to the mark, the end or the clock."""
    frames: list
    is_closed: bool = False
    # Neither the mark nor the end came.
    is_silent: bool = False

    def end(self):
        return "closed" if self.is_closed else "silent" if self.is_silent else "open"


@dataclass
class Difference:
    """Two transcripts that nothing explains. `what` names the class: the same for the same cause, as far as can
    be told."""
    what: str
    apache: str
    ours: str
    step: int = -1
    lines: list = field(default_factory=list)


@dataclass
class Outcome:
    """`must_drop`: the connection has another state on each server now, and both must end it. `must_end`: so have
    the trees, and the program ends. `may_move`: so many zxids Apache may have taken that no reply has shown."""
    rows: list = field(default_factory=list)
    difference: Difference | None = None
    must_drop: bool = False
    must_end: bool = False
    may_move: int = 0
    # The transcript: (request, Apache's, ours).
    lines: list = field(default_factory=list)
    # What Apache said, for the coverage table.
    groups: list = field(default_factory=list)
    tail: list = field(default_factory=list)


class Judge:
    """`views`: Apache's and ours; `rows`: the table of explained differences."""

    def __init__(self, config, views, alignment, rows):
        self.config, self.views, self.alignment, self.rows = config, views, alignment, rows
        # What the program has asked so far.
        self.earlier = []

    def compare(self, requests, apache, ours, is_ending=False, may_move=0):
        """`is_ending`: the step ends a session, so the order of its events is free."""
        out = self.compared(requests, apache, ours, is_ending, may_move)
        self.earlier += requests
        return out

    def compared(self, requests, apache, ours, is_ending, may_move):
        out = Outcome(may_move=may_move)
        parts_a, tail_a, mark_a = canonical.split(apache.frames, requests)
        parts_b, tail_b, mark_b = canonical.split(ours.frames, requests)
        for n in range(max(len(parts_a), len(parts_b))):
            a, b = (canonical.group(parts[n], view) if n < len(parts) else canonical.Group()
                    for parts, view in zip((parts_a, parts_b), self.views))
            if not self.judge(out, requests, n, a, b, is_ending):
                return out
            if out.must_drop or out.must_end:
                # What follows, and whether the connection lives, is a part of what was explained.
                return out
        a, b = (canonical.Group(None, [canonical.event(one, view) for one in tail])
                for tail, view in zip((tail_a, tail_b), self.views))
        after = requests[-1].op if requests else "nothing asked"
        if is_ending:
            a.events, b.events = canonical.ordered(a.events), canonical.ordered(b.events)
        out.tail = a.events
        if a.events or b.events or apache.end() != ours.end() or apache.end() != "open":
            out.lines.append((None, f"{told(a)}; {apache.end()}", f"{told(b)}; {ours.end()}"))
        if a.events != b.events:
            out.difference = Difference(f"events behind {after}: {kinds(a)}, ours {kinds(b)}", *out.lines[-1][1:])
        elif apache.end() != ours.end():
            out.difference = Difference(f"{after}: apache {apache.end()}, ours {ours.end()}", *out.lines[-1][1:])
        elif mark_a is not None and mark_b is not None:
            out.difference = self.differ_in_zxids(out, mark_a, mark_b, after)
        return out

    def judge(self, out, requests, n, a, b, is_ending):
        """One request. False at a difference."""
        request = a.request or b.request
        if is_ending:
            a.events, b.events = canonical.ordered(a.events), canonical.ordered(b.events)
        out.groups.append(a)
        out.lines.append((request, told(a), told(b)))
        is_same = a.key() == b.key()
        rows = (row for row in self.rows if request and (row.hides or not is_same))
        row = next((row for row in rows if row.explains(self.config, requests, n, a, b, tuple(self.earlier))), None)
        if row is None and is_same:
            return True
        if row is None:
            out.difference = Difference(what(request, a, b), told(a), told(b))
            return False
        out.rows.append(row.name)
        out.must_drop |= row.drops
        out.must_end |= row.ends
        out.may_move = max(out.may_move, row.takes)
        if a.reply and b.reply and a.reply.raw_zxid > 0 and b.reply.raw_zxid > 0:
            out.difference = self.differ_in_zxids(out, a.reply.raw_zxid, b.reply.raw_zxid, request.op)
        return out.difference is None

    def differ_in_zxids(self, out, apache, ours, after):
        """A difference, unless Apache has taken no more than what was explained; that is taken into account then."""
        taken = self.alignment.ours(apache) - ours
        if taken == 0:
            return None
        if 0 < taken <= out.may_move:
            self.alignment.moved(apache, ours)
            out.may_move -= taken
            return None
        return Difference(f"zxid behind {after}", f"zxid {self.alignment.ours(apache)}", f"zxid {ours}")


def told(group):
    """A group in a line."""
    said = [" ".join(map(str, one)) for one in group.events]
    if group.request is None and group.reply is None:
        return "; ".join(said) or "nothing"
    if group.reply is None:
        return "; ".join([*said, "no reply"])
    reply = group.reply
    return "; ".join([*said, f"xid {reply.xid} zxid {reply.zxid} err {reply.err}" + (f" {reply.body}" if reply.body else "")])


def what(request, a, b):
    """The class of a difference."""
    op = request.op if request else "nothing asked"
    outcomes = [outcome(request, group) for group in (a, b)]
    if outcomes[0] != outcomes[1]:
        return f"{op}: apache {outcomes[0]}, ours {outcomes[1]}"
    if a.events != b.events:
        return f"{op}: events {kinds(a)}, ours {kinds(b)}"
    if a.reply.body != b.reply.body:
        return f"{op}: body, err {outcomes[0]}"
    return f"{op}: xid or zxid, err {outcomes[0]}"


def kinds(group):
    return [one[3] for one in group.events if len(one) > 3]


def outcome(request, group):
    if group.reply is None:
        return "no reply"
    inner = codes(group) if request and request.op.startswith("multi") else []
    return f"{group.reply.err} {inner}" if inner else str(group.reply.err)


def codes(group):
    """The code of each result of a multi."""
    said = group.reply.body[0] if group.reply and group.reply.body else ()
    return [one[2] for one in said if isinstance(one, tuple) and not one[1]] if isinstance(said, tuple) else []
