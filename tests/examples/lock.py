#!/usr/bin/env python3
"""A lock across processes, and the token that fences off a holder who has lost it.

    terminal 1:  python3 tests/examples/lock.py --name one --hold 30 --blind
    terminal 2:  python3 tests/examples/lock.py --name two

One holds the lock for 30 seconds; two waits, gets it with a greater token, and adds 1 to the number that the
lock protects. Now again, but stop one with Ctrl-Z while it holds the lock. Its session expires after 10 seconds
and two goes on. Wake one with `fg`: it takes the lock for its own, and its write is refused.

Each contender creates an ephemeral sequential node. Whoever has the smallest number holds the lock; the others
wait for the node right before their own, and for no other: if all watched the holder, its end would wake all of them
for the sake of one (the herd effect). Who dies loses the session, with it the node, and the next one goes on.

What can go wrong:
- The holder sleeps (a stopped process, a long garbage collection) and its session expires. It can't notice, so a look
  at the session before each write does not help: it may fall asleep between look and write. What is protected must help:
  it remembers the greatest token that it has seen, and refuses smaller ones. The token is the czxid of the holder's
  node: zxids only grow, also when the parent node is deleted and numbers begin at 0 again.
- The answer to the create is lost: common.create_sequential.
- The node vanishes while its owner waits, because the session has expired: it goes to the end of the line.
"""

import fcntl
import json
import os
import tempfile
import threading

from common import arguments, create_sequential, say, sequence, session
from kazoo.exceptions import NoNodeError


class Lock:
    def __init__(self, client, path):
        self.client, self.path, self.node = client, path, None
        # Set when the holder can no longer be sure: the connection is gone, or the session.
        self.doubt = threading.Event()
        client.add_listener(lambda state: self.doubt.set() if state != "CONNECTED" else None)

    def acquire(self):
        """Waits for the lock; returns the fencing token."""
        while True:
            self.node = create_sequential(self.client, f"{self.path}/lock-", ephemeral=True)
            self.wait_for_turn()
            self.doubt.clear()
            stat = self.client.retry(self.client.exists, f"{self.path}/{self.node}")
            if stat:
                return stat.czxid

    def wait_for_turn(self):
        """Until the own node is the first one, or gone."""
        while True:
            line = sorted(self.client.retry(self.client.get_children, self.path), key=sequence)
            if self.node not in line or line[0] == self.node:
                return
            changed, before = threading.Event(), line[line.index(self.node) - 1]
            try:
                # Not exists: that would leave a watch on the name of a node that never comes back.
                self.client.retry(self.client.get, f"{self.path}/{before}", watch=lambda event: changed.set())
            except NoNodeError:
                continue
            # An event may also mean that the one before has given up, or that the connection is gone: look again.
            changed.wait()

    def release(self):
        try:
            self.client.retry(self.client.delete, f"{self.path}/{self.node}")
        except NoNodeError:
            pass  # a try whose answer was lost has deleted it, or the session has expired


class Fenced(Exception):
    """The token is older than one that was seen before."""


def access(file, token, value=None):
    """Stands for the storage that the lock protects: reads the number, or writes it. Reading raises the fence too:
    what has been read can't be changed by an earlier holder any more."""
    with open(file, "a+") as stored:
        fcntl.flock(stored, fcntl.LOCK_EX)
        stored.seek(0)
        newest, before = json.loads(stored.read() or "[0, 0]")
        if token < newest:
            raise Fenced(f"refused: token {token} is older than {newest}")
        stored.truncate(0)
        stored.write(json.dumps([token, before if value is None else value]))
        return before


def main():
    parser = arguments(__doc__, "/examples/lock")
    parser.add_argument("--name", required=True)
    parser.add_argument("--hold", type=float, default=1, help="seconds of work under the lock")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--blind", action="store_true", help="write without a look at the connection before")
    parser.add_argument("--file", default=os.path.join(tempfile.gettempdir(), "lock-example"), help="what the lock protects; goes with the server's data")
    args = parser.parse_args()
    with session(args) as client:
        lock, pause = Lock(client, args.root), threading.Event()
        for _ in range(args.rounds):
            say(f"{args.name} waits")
            token = lock.acquire()
            say(f"{args.name} holds the lock, token {token}")
            try:
                number = access(args.file, token) + 1
                say(f"{args.name} has read {number - 1}")
                (pause if args.blind else lock.doubt).wait(args.hold)
                if lock.doubt.is_set() and not args.blind:
                    say(f"{args.name} may have lost the lock: writes nothing")
                else:
                    access(args.file, token, number)
                    say(f"{args.name} has written {number}")
            except Fenced as refused:
                say(f"{args.name} is {refused}")
            lock.release()


if __name__ == "__main__":
    main()
