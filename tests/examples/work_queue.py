#!/usr/bin/env python3
"""A queue whose items are each done exactly once, whoever dies.

    terminal 1:  python3 tests/examples/work_queue.py --name one --work 5
    terminal 2:  python3 tests/examples/work_queue.py --put wash dry iron fold

The first takes item after item, each of which is 5 seconds of work. Start a second consumer, kill the first in the middle of
an item (kill -9): when its session has expired, the other takes that item again. --done lists what was done.

An item is a persistent sequential node. A consumer claims it with an ephemeral node of the same name, works, and ends
with one transaction: the item goes, the claim goes, the result is there; all of it or nothing.

What can go wrong:
- The consumer dies at work: the claim vanishes with the session, and the item is taken again. Work is *begun* once or more,
  and recorded once. Effects outside of the transaction happen once only if they can be repeated without harm.
- It is stopped, its claim expires, another does the item, it wakes and finishes too: there is no item any more, so its
  transaction fails as a whole.
- The answer to the transaction is lost: the item is there, and it is tried again, or not, and somebody has done it.
- The answer to a put is lost: common.create_sequential, or the item would be in the queue twice.
- Every put wakes every idle consumer (the herd effect); only the one that claims it first works. For very many
  consumers let one of them hand out the work.
"""

import threading
import time

from common import arguments, create_ephemeral, create_sequential, say, sequence, session
from kazoo.exceptions import ConnectionLoss, NoNodeError, SessionExpiredError


class Queue:
    def __init__(self, client, root):
        self.client, self.items, self.claims, self.results = client, f"{root}/items", f"{root}/claims", f"{root}/done"
        for path in (self.items, self.claims, self.results):
            client.retry(client.ensure_path, path)

    def put(self, data):
        return create_sequential(self.client, f"{self.items}/item-", data)

    def claim(self):
        """Waits for an item that nobody has; returns its name and data."""
        while True:
            changed = threading.Event()
            # Both lists are watched: an item comes, or a claim goes because its owner is dead.
            items = self.client.retry(self.client.get_children, self.items, watch=lambda event: changed.set())
            claimed = self.client.retry(self.client.get_children, self.claims, watch=lambda event: changed.set())
            for name in sorted(set(items) - set(claimed), key=sequence):
                if not create_ephemeral(self.client, f"{self.claims}/{name}"):
                    continue
                try:
                    return name, self.client.retry(self.client.get, f"{self.items}/{name}")[0]
                except NoNodeError:
                    self.release(name)  # the list was old: somebody has done it
            changed.wait()

    def release(self, name):
        stat, own = self.client.retry(self.client.exists, f"{self.claims}/{name}"), self.client.client_id
        if stat and own and stat.ephemeralOwner == own[0]:
            try:
                self.client.retry(self.client.delete, f"{self.claims}/{name}")
            except NoNodeError:
                pass

    def finish(self, name, result):
        """Records the result and ends the item. False if another one has done that or is at it, or if this
        one has, and the answer was lost."""
        while self.client.retry(self.client.exists, f"{self.items}/{name}"):
            if not create_ephemeral(self.client, f"{self.claims}/{name}"):
                return False  # the claim has expired, and another one is at work
            transaction = self.client.transaction()
            transaction.delete(f"{self.items}/{name}")
            transaction.delete(f"{self.claims}/{name}")
            transaction.create(f"{self.results}/result-", result, sequence=True)
            try:
                if not any(isinstance(answer, Exception) for answer in transaction.commit()):
                    return True
            except (ConnectionLoss, SessionExpiredError):
                pass
        self.release(name)
        return False

    def done(self):
        names = sorted(self.client.retry(self.client.get_children, self.results), key=sequence)
        return [self.client.retry(self.client.get, f"{self.results}/{name}")[0].decode() for name in names]


def main():
    parser = arguments(__doc__, "/examples/queue")
    parser.add_argument("--name", help="consume under this name")
    parser.add_argument("--work", type=float, default=1, help="seconds for each item")
    parser.add_argument("--put", nargs="+", metavar="ITEM")
    parser.add_argument("--done", action="store_true", help="list what was done")
    args = parser.parse_args()
    with session(args) as client:
        queue = Queue(client, args.root)
        for item in args.put or ():
            say(f"put {item} as {queue.put(item.encode())}")
        for item in queue.done() if args.done else ():
            say(f"done: {item}")
        while args.name:
            name, data = queue.claim()
            say(f"{args.name} takes {data.decode()}")
            time.sleep(args.work)
            done = queue.finish(name, data)
            say(f"{args.name} {'has done' if done else 'finds taken or done:'} {data.decode()}")


if __name__ == "__main__":
    main()
