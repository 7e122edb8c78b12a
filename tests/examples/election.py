#!/usr/bin/env python3
"""Leader election: one of many leads; when it is gone, the next in line does, and only that one is woken.

    terminal 1:  python3 tests/examples/election.py --name one
    terminal 2:  python3 tests/examples/election.py --name two
    terminal 3:  python3 tests/examples/election.py --name three

One leads, two follows one, three follows two. End one: two leads, and three has noticed nothing. Stop two with Ctrl-Z:
three leads when the session of two has expired, and after `fg` two is at the end of the line.

The line is that of lock.py: an ephemeral sequential node each, the smallest number leads, and each of the others watches
the node right before its own (with a watch on the list all would wake at each change: the herd effect).

What can go wrong:
- The leader loses the connection (SUSPENDED). Its session may expire, and another one lead: it stops acting at once.
  If it comes back in time, it goes on; if the session is LOST, it gets in line again, at the end. kazoo says SUSPENDED
  after two thirds of the session's timeout without an answer, so a leader whose clock runs stops before another begins.
- The leader is stopped as a whole, and acts before it hears anything. Therefore an order carries the leader's
  term, the czxid of its node: those who follow refuse a smaller one than they have seen, as the storage does in lock.py.
- One who is not first wakes because the one before has given up: it looks who is before it now, and leads only if nobody is.
"""

import threading

from common import arguments, create_sequential, say, sequence, session
from kazoo.exceptions import NoNodeError


class Candidate:
    def __init__(self, client, path, name):
        self.client, self.path, self.name = client, path, name
        # Set by every change of the connection's state.
        self.changed = threading.Event()
        client.add_listener(lambda state: self.changed.set())

    def run(self):
        """Stands for election for ever. Reports: follows, woken, leads, steps down, is out."""
        while True:
            node = create_sequential(self.client, f"{self.path}/candidate-", self.name.encode(), ephemeral=True)
            while line := self.line(node):
                if line[0] == node:
                    self.lead(node)
                else:
                    self.follow(line[line.index(node) - 1])
            say(f"{self.name} is out: the session has expired")

    def line(self, node):
        """All candidates in their order; none if the own one is not there."""
        names = sorted(self.client.retry(self.client.get_children, self.path), key=sequence)
        return names if node in names else []

    def follow(self, before):
        changed = threading.Event()
        try:
            leader, _ = self.client.retry(self.client.get, f"{self.path}/{before}", watch=lambda event: changed.set())
        except NoNodeError:
            return
        say(f"{self.name} follows {leader.decode()}")
        changed.wait()
        say(f"{self.name} is woken")

    def lead(self, node):
        """Acts as the leader until the connection breaks. Whether it leads again then, the line says."""
        self.changed.clear()
        # Read behind the clear: a connection that is lost from here on sets it again.
        stat = self.client.retry(self.client.exists, f"{self.path}/{node}")
        if stat:
            say(f"{self.name} leads, term {stat.czxid}")
            # A real leader works here, in pieces, until this is set, and sends the term with everything. The present
            # state would be the wrong question: the connection may be back already, with another session.
            self.changed.wait()
            say(f"{self.name} steps down, term {stat.czxid}")


def main():
    parser = arguments(__doc__, "/examples/election")
    parser.add_argument("--name", required=True)
    args = parser.parse_args()
    with session(args) as client:
        Candidate(client, args.root, args.name).run()


if __name__ == "__main__":
    main()
