#!/usr/bin/env python3
"""A counter that many increase, by compare and set, with no increment lost and none made twice.

    terminal 1:  python3 tests/examples/counter.py --name one --to 300
    terminal 2:  python3 tests/examples/counter.py --name two --to 300

Both count at once; in the end the counter is at 600. Kill one in the middle (kill -9) and start it again with the same
command: it goes on where it was.

Each increment is one transaction: the counter is set to one more, if it still has the version that was read, and so is the
writer's own node, which says how many of the increments are its own.

What can go wrong:
- Two read 7 and both write 8: an increment is lost. With the version that was read, the second write fails, and reads again.
- The answer is lost. Was it executed? To repeat it might count twice, not to repeat it not at all. The writer's own node knows,
  because it changes in the same transaction: read it, and go on from there. A crash between two increments, or in the
  middle of one, is the same case.
- Writers that fail again and again: each failure means that another one has succeeded, so all together advance. If many write
  all the time, let each have a node of its own, and add them up.
"""

import time

from common import arguments, say, session
from kazoo.exceptions import ConnectionLoss, NodeExistsError, SessionExpiredError


class Counter:
    def __init__(self, client, root, name):
        self.client, self.total, self.own = client, f"{root}/total", f"{root}/by-{name}"
        for path in (self.total, self.own):
            try:
                client.retry(client.create, path, b"0")
            except NodeExistsError:
                pass

    def read(self, path):
        data, stat = self.client.retry(self.client.get, path)
        return int(data), stat.version

    def increment(self, own):
        """Brings the own count from `own - 1` to `own`, once, however often it is called. Returns the counter."""
        while True:
            # The own node first: should an earlier try be executed behind this read, the version refuses the next.
            done, own_version = self.read(self.own)
            total, total_version = self.read(self.total)
            if done >= own:
                return total
            transaction = self.client.transaction()
            transaction.set_data(self.own, str(own).encode(), own_version)
            transaction.set_data(self.total, str(total + 1).encode(), total_version)
            try:
                if not any(isinstance(answer, Exception) for answer in transaction.commit()):
                    return total + 1
            except (ConnectionLoss, SessionExpiredError):
                pass  # executed or not: the own node says it


def main():
    parser = arguments(__doc__, "/examples/counter")
    parser.add_argument("--name", required=True, help="the same name after a restart, and no other's")
    parser.add_argument("--to", type=int, default=300, help="how many increments are this writer's own in the end")
    parser.add_argument("--every", type=float, default=0.1, help="seconds between two increments")
    args = parser.parse_args()
    with session(args) as client:
        counter = Counter(client, args.root, args.name)
        for own in range(counter.read(counter.own)[0] + 1, args.to + 1):
            say(f"{args.name}: {own} of {args.to}, the counter is at {counter.increment(own)}")
            time.sleep(args.every)


if __name__ == "__main__":
    main()
