#!/usr/bin/env python3
"""A double barrier: nobody begins before all are there, and nobody goes on before all have finished.

    terminal 1:  python3 tests/examples/barrier.py --name one --size 2 --rounds 3
    terminal 2:  python3 tests/examples/barrier.py --name two --size 2 --rounds 3 --work 5

One waits for two; then both work, two for 5 seconds, and neither begins the second round before both have
finished the first.

Enter: create an ephemeral node below `members`; who then counts as many nodes as take part creates the node `ready`;
all wait for that one, so each is woken once, and all at the same time. Leave: delete the own node, wait until none is left.

What can go wrong:
- Somebody waits until `members` is full, and looks too late: one has finished and left, there are too few again, and it
  waits for ever. What opens the barrier must stay until all have left: `ready`.
- A fast one begins the next round before a slow one has seen the end of this one. On the same nodes the slow one would
  take it for one that has not finished, and both wait for each other for ever. So each round has a node of its own, and
  who finds it deleted knows that the round is over.
- Somebody dies inside: its node vanishes when the session expires, and the others don't wait for ever. Until then it
  is counted as there: a barrier says who has come, not who is alive.
- The session expires while its owner waits: every event means to look again, and to make the own node again.
- A watch on the list would wake each for each other. Entering, all wait for `ready`; leaving, for one remaining node.
"""

import threading
import time

from common import arguments, create_ephemeral, say, session
from kazoo.exceptions import NodeExistsError, NoNodeError, NotEmptyError


class DoubleBarrier:
    def __init__(self, client, path, name, size):
        self.client, self.path, self.name, self.size = client, path, name, size
        self.members, self.ready = f"{path}/members", f"{path}/ready"

    def enter(self):
        """Waits until all are there."""
        self.client.retry(self.client.ensure_path, self.members)
        while True:
            changed = threading.Event()
            # The watch comes before the count: if somebody else counts enough of them, it fires.
            opened = self.client.retry(self.client.exists, self.ready, watch=lambda event: changed.set())
            if not create_ephemeral(self.client, f"{self.members}/{self.name}"):
                raise SystemExit(f"there is another {self.name} in this round")
            if opened:
                return
            if len(self.client.retry(self.client.get_children, self.members)) >= self.size:
                try:
                    self.client.retry(self.client.create, self.ready)
                except NodeExistsError:
                    pass
            changed.wait()

    def leave(self):
        """Waits until all have finished."""
        self.delete(f"{self.members}/{self.name}")
        try:
            while names := self.client.retry(self.client.get_children, self.members):
                self.wait_for_end_of(max(names))
        except NoNodeError:
            pass  # others have seen the end before, and have deleted the round
        for path in (self.ready, self.members, self.path):
            self.delete(path)

    def wait_for_end_of(self, name):
        changed = threading.Event()
        try:
            self.client.retry(self.client.get, f"{self.members}/{name}", watch=lambda event: changed.set())
        except NoNodeError:
            return
        changed.wait()

    def delete(self, path):
        try:
            self.client.retry(self.client.delete, path)
        except NoNodeError:
            pass  # by another one, by a try whose answer was lost, or by the end of the session
        except NotEmptyError:
            pass  # somebody has come to this round who is not part of it


def main():
    parser = arguments(__doc__, "/examples/barrier")
    parser.add_argument("--name", required=True)
    parser.add_argument("--size", type=int, default=2, help="how many take part")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--work", type=float, default=1, help="seconds of work in each round")
    args = parser.parse_args()
    with session(args) as client:
        for n in range(1, args.rounds + 1):
            barrier = DoubleBarrier(client, f"{args.root}/round-{n}", args.name, args.size)
            say(f"{args.name} comes to round {n}")
            barrier.enter()
            say(f"{args.name} begins round {n}")
            time.sleep(args.work)
            say(f"{args.name} has finished round {n}")
            barrier.leave()
            say(f"{args.name} goes on: round {n} is over")


if __name__ == "__main__":
    main()
