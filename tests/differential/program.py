"""What a client program is made of, as plain values that know nothing of any server.

A program is a list of steps. A step is done on both servers before the next one begins, so nothing in a program
races with anything else in it. Its sessions have numbers, the *slots*; a slot outlives its connections.

| Step | What happens |
|---|---|
| connect | a new session for the slot; its requests follow without waiting |
| reattach | the slot's session on a new connection, perhaps with a wrong password, perhaps while the old one lives |
| send | one to a dozen requests in one write |
| frame | raw bytes on the slot's connection |
| handshake | raw bytes on a connection of its own |
| drop | the slot's connection ends, its session stays |
| expire | the slot's session is attached with the shortest timeout, and runs out |
| restart | both servers are stopped and started again |
| reap | requests, and the wait until the server has deleted a container or TTL node by itself |

In texts `~` stands for the program's own subtree. A step that needs a connection or session that is not there does
nothing, so any part of a program is a program: this is what shrinking relies on."""

from dataclasses import dataclass, field, replace

# Requests whose reply may be followed by the end of the connection, or that Apache answers ahead of others: they are
# sent alone.
ALONE = {"auth", "sasl", "check", "unknown", "closeSession", "createSession", "deleteContainer"}


@dataclass(frozen=True)
class Request:
    """`args` by operation: see wire.py. `bend` is what is done to the encoded body: ("cut", n) leaves n bytes,
    ("put", at, n) overwrites four bytes, ("tail", bytes) appends."""
    op: str
    args: dict = field(default_factory=dict)
    xid: int | None = None
    bend: tuple | None = None

    def is_alone(self):
        return self.op in ALONE

    def __str__(self):
        said = ", ".join(f"{name}={short(value)}" for name, value in self.args.items())
        more = (f" xid={self.xid}" if self.xid is not None else "") + (f" bent by {self.bend}" if self.bend else "")
        return f"{self.op}({said}){more}"


@dataclass(frozen=True)
class Step:
    do: str
    slot: int = 0
    args: dict = field(default_factory=dict)
    requests: tuple = ()

    def __str__(self):
        said = "".join(f" {name}={short(value)}" for name, value in self.args.items())
        return f"{self.do} s{self.slot}{said}" if self.do != "restart" else self.do


@dataclass(frozen=True)
class Program:
    """`seed` and `number` make it again; `config` names the configuration of both servers."""
    seed: int
    number: int
    config: str
    steps: tuple

    def __len__(self):
        return sum(len(step.requests) for step in self.steps)

    def root(self):
        return f"/d{self.number % 1_000_000:06}"

    def only(self, picks):
        """The part that `picks` names: (step, request) keeps a request of a step, (step, None) the step itself, without
        which its requests do not count, unless it is a plain `send`."""
        chosen = {}
        for step, request in picks:
            chosen.setdefault(step, set()).add(request)
        steps = [replace(step, requests=tuple(one for k, one in enumerate(step.requests) if k in chosen[n]))
                 for n, step in enumerate(self.steps) if n in chosen and (step.do == "send" or None in chosen[n])]
        return replace(self, steps=tuple(steps))

    def picks(self):
        """Everything, in the finest parts that there are."""
        made = []
        for n, step in enumerate(self.steps):
            made += [(n, None)] if step.do != "send" else []
            made += [(n, k) for k in range(len(step.requests))]
        return made


def short(value, limit=90):
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"


def told(picks):
    """Picks as the command line takes them: `0,3.1,3.2`."""
    return ",".join(str(step) if request is None else f"{step}.{request}" for step, request in picks)


def picked(text):
    """The reverse of `told`."""
    picks = []
    for part in text.split(","):
        step, _, request = part.partition(".")
        picks.append((int(step), int(request) if request else None))
    return picks
