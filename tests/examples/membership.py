#!/usr/bin/env python3
"""Cluster membership: every member knows who else is there, and all agree on the order of changes.

    terminal 1:  python3 tests/examples/membership.py --name one
    terminal 2:  python3 tests/examples/membership.py --name two

Each prints a view whenever somebody joins or leaves: its number, and the names. End two with Ctrl-C, and one
knows at once; stop it with Ctrl-Z, and one knows when the session of two has expired. After `fg` two joins again.

A member is an ephemeral node below the group's. A view is numbered by the group's pzxid, the zxid of the last
change of its children, which comes in the same reply as their names: two members that speak of view 17 mean the same
names, and the greater number is the later view. Not everybody sees every view: two changes in a row may be one.

What can go wrong:
- A member that was cut off does not know that it is out until it is back. What members do to each other should carry
  the number of the view, and be refused by those who know a later one.
- A member comes back with another session: its node is gone, and it joins again (common.stay_registered).
- Every change wakes every member (the herd effect). Here that is the purpose; for thousands of members let a few watch and
  publish the list.
"""

import threading

from common import arguments, in_background, say, session, stay_registered


def views(client, path):
    """Yields (number, names): the view of now, then each later one that is seen, for ever."""
    newest = 0
    while True:
        changed = threading.Event()
        # Names, Stat and watch in one request: a change that is not in the names will be in an event.
        names, stat = client.retry(client.get_children, path, watch=lambda event: changed.set(), include_data=True)
        if stat.pzxid > newest:
            newest = stat.pzxid
            yield newest, sorted(names)
        changed.wait()


def join(client, root, name):
    stay_registered(client, f"{root}/{name}", told=lambda: say(f"{name} has joined"))


def main():
    parser = arguments(__doc__, "/examples/membership")
    parser.add_argument("--name", required=True)
    args = parser.parse_args()
    with session(args) as client:
        in_background(join, client, args.root, args.name)
        for number, names in views(client, args.root):
            say(f"{args.name} sees view {number}: {' '.join(names)}")


if __name__ == "__main__":
    main()
