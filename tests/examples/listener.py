#!/usr/bin/env python3
"""A data-change listener: every change of the nodes of a directory, with what was there before.

    terminal 1:  python3 tests/examples/listener.py
    terminal 2:  python3 tests/examples/listener.py --set colour=red size=4
                 python3 tests/examples/listener.py --set colour=blue --delete size

The first prints what was added, changed, replaced and removed. Take the server away for a moment, or
let the session expire (Ctrl-Z for longer than --timeout): what has changed meanwhile is printed afterwards.

An event says that something has changed, and not what. So the listener keeps what it has seen, reads again after
each event, and reports the difference. The list has a watch, and each child has one for its data.

What can go wrong:
- A watch fires once. It is set again by the same request that reads the new state, so nothing falls between; changes
  in quick succession are reported as one. The version says how many there were.
- Connection and session take all watches along. kazoo calls each once with an event of type NONE; it is handled like
  any other event, and what was missed is found by reading.
- A node was deleted and created again: perhaps with the version that it had before. The czxid tells the two apart.
- kazoo calls all watches on one thread: one that asks the server and waits holds up all that come after it. Here
  they only say what is to be read, and a thread of ours reads.
"""

import queue

from common import arguments, say, session
from kazoo.exceptions import NodeExistsError, NoNodeError

LIST = None


class Listener:
    def __init__(self, client, path):
        self.client, self.path = client, path
        self.known = {}
        # What is to be read again: the name of a child, or LIST.
        self.due = queue.Queue()
        self.due.put(LIST)

    def changes(self):
        """Yields (what, name, before, after) for ever; before and after are data, or None."""
        while True:
            name = self.due.get()
            if name is LIST:
                for new in self.read_list():
                    yield from self.read_child(new)
            else:
                yield from self.read_child(name)

    def read_list(self):
        """Children that have no watch yet. Those that are gone are told of by their own."""
        names = self.client.retry(self.client.get_children, self.path, watch=lambda event: self.due.put(LIST))
        return sorted(set(names) - self.known.keys())

    def read_child(self, name):
        before, old = self.known.get(name, (None, None))
        try:
            after, new = self.client.retry(self.client.get, f"{self.path}/{name}", watch=lambda event: self.due.put(name))
        except NoNodeError:
            if self.known.pop(name, None):
                yield "removed", name, before, None
            return
        self.known[name] = after, new
        if old is None:
            yield "added", name, None, after
        elif old.czxid != new.czxid:
            yield "replaced", name, before, after
        elif old.mzxid != new.mzxid:
            yield "changed", name, before, after


def put(client, path, data):
    while True:
        try:
            client.retry(client.set, path, data)
            return
        except NoNodeError:
            try:
                client.retry(client.create, path, data)
                return
            except NodeExistsError:
                pass  # created meanwhile, perhaps by ourselves: set it


def main():
    parser = arguments(__doc__, "/examples/listener")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=DATA")
    parser.add_argument("--delete", nargs="+", default=[], metavar="NAME")
    args = parser.parse_args()
    with session(args) as client:
        for setting in args.set:
            name, data = setting.split("=", 1)
            put(client, f"{args.root}/{name}", data.encode())
        for name in args.delete:
            client.retry(client.delete, f"{args.root}/{name}")
        if args.set or args.delete:
            return
        for what, name, before, after in Listener(client, args.root).changes():
            say(f"{what} {name}: {before} -> {after}")


if __name__ == "__main__":
    main()
