#!/usr/bin/env python3
"""Service discovery: instances register themselves, callers spread their calls over those that live.

    terminal 1:  python3 tests/examples/discovery.py --serve 10.0.0.1:80 10.0.0.2:80 10.0.0.3:80 10.0.0.4:80
    terminal 2:  python3 tests/examples/discovery.py --policy hash
    terminal 3:  python3 tests/examples/discovery.py --serve 10.0.0.5:80

The second prints who would be called for which key, and at each change of the instances how many of 10,000 keys
move to another one. End and start the third: a fifth of the keys moves, where `hash(key) % n` would move four fifths.
Other policies: round-robin, random.

An instance is an ephemeral node whose name is the address, so that one read gives a caller all of them.

What can go wrong:
- An instance that was killed stays listed until its session expires. A caller must be able to try another one.
- An instance loses its session (it slept, the network was away) and lives on: it registers again, or nobody would
  ever call it.
- An instance that starts again soon meets the node of its former self, which is about to vanish: common.register.
- The caller loses the connection. The list that it has is old, but better than none: it keeps it until it can read again.
"""

import bisect
import hashlib
import itertools
import random
import threading
import time

from common import arguments, in_background, say, session, stay_registered

# Points of each member on the circle. More of them spread the keys more evenly, and cost memory.
VIRTUAL_NODES = 200
KEYS = 10_000


class RoundRobin:
    def __init__(self):
        self.turn = itertools.count()

    def pick(self, members, key):
        return members[next(self.turn) % len(members)]


class Random:
    def pick(self, members, key):
        return random.choice(members)


class ConsistentHash:
    """Members and keys are points on a circle; a key belongs to the next member behind it. When a member leaves, its keys
    go to those behind its points, and no other key moves. With one point for each member all of them would
    go to one neighbour; many points (virtual nodes) give a part to everybody."""

    def __init__(self):
        self.members, self.points = None, []

    @staticmethod
    def place(text):
        # Python's own hash is another one in each process: callers would not agree.
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")

    def pick(self, members, key):
        if members != self.members:
            self.members = members
            self.points = sorted((self.place(f"{member}#{n}"), member) for member in members for n in range(VIRTUAL_NODES))
        behind = bisect.bisect(self.points, (self.place(key), ""))
        return self.points[behind % len(self.points)][1]


POLICIES = {"round-robin": RoundRobin, "random": Random, "hash": ConsistentHash}


def follow(client, path):
    """Yields the sorted addresses: those of now, then after each change, for ever."""
    before = None
    while True:
        changed = threading.Event()
        members = sorted(client.retry(client.get_children, path, watch=lambda event: changed.set()))
        if members != before:
            before = members
            yield members
        changed.wait()


def moved(before, after):
    """How many keys another member is responsible for: with consistent hashing, and with the remainder."""
    old, new, keys = ConsistentHash(), ConsistentHash(), [f"key-{n}" for n in range(KEYS)]
    consistent = sum(old.pick(before, key) != new.pick(after, key) for key in keys)
    places = [ConsistentHash.place(key) for key in keys]
    return consistent, sum(before[place % len(before)] != after[place % len(after)] for place in places)


def serve(client, root, address):
    stay_registered(client, f"{root}/{address}", told=lambda: say(f"{address} is registered"))


def main():
    parser = arguments(__doc__, "/examples/discovery")
    parser.add_argument("--serve", nargs="+", metavar="ADDRESS", help="register these instances")
    parser.add_argument("--policy", choices=POLICIES, default="round-robin")
    parser.add_argument("--every", type=float, default=1, help="seconds between two calls")
    args = parser.parse_args()
    with session(args) as client:
        if args.serve:
            for address in args.serve:
                in_background(serve, client, args.root, address)
            threading.Event().wait()
        current, policy = [], POLICIES[args.policy]()

        def listen():
            nonlocal current
            for members in follow(client, args.root):
                before, current = current, members
                say(f"members: {' '.join(members)}")
                if before and members and args.policy == "hash":
                    consistent, remainder = moved(before, members)
                    say(f"{consistent} of {KEYS} keys move; by remainder it would be {remainder}")

        in_background(listen)
        for n in itertools.count():
            # Once for each call: the other thread may replace the list meanwhile.
            members = current
            if members:
                key = f"key-{n % KEYS}"
                say(f"{key} -> {policy.pick(members, key)}")
            time.sleep(args.every)


if __name__ == "__main__":
    main()
