"""What all examples share: a session, and creates that survive a lost answer.

A session outlives its connections. Its ephemeral nodes live as long as the session, and kazoo tells a
listener how things stand:

CONNECTED   Requests are answered.
SUSPENDED   The connection is gone; the server may keep the session, or let it expire. Every watch of
            the connection is gone too: kazoo calls it once, with an event of type NONE. Whoever waits for
            a watch therefore reads again after *any* event.
LOST        The session has expired, and its ephemeral nodes are deleted. kazoo opens another session by
            itself, in which nothing of the old one exists.

LOST is what the server says when a client comes back. A process that was stopped or cut off goes on
believing in a session that has expired long ago, until it has spoken with the server.

A request whose connection breaks before its answer raises ConnectionLoss, and nobody knows whether it was
executed. A read is repeated (`client.retry`). So is a write that can be executed twice without harm; the
functions below are for two that can't.
"""

import argparse
import contextlib
import signal
import sys
import threading
import uuid

from kazoo.client import KazooClient
from kazoo.exceptions import ConnectionClosedError, ConnectionLoss, NodeExistsError, SessionExpiredError


def arguments(doc, root):
    """A parser with the options that every example has; the help is the module's docstring."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", default="localhost:2181")
    parser.add_argument("--timeout", type=float, default=10, help="seconds without a sign of life until the session expires")
    parser.add_argument("--root", default=root, help="the node below which the example works")
    return parser


def say(line):
    """Prints a line in one piece: kazoo's threads speak too."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


@contextlib.contextmanager
def session(args):
    """A client with a session, which ends with the block: its ephemeral nodes vanish at once. Those of a program
    that is killed stay until the session expires."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit())
    client = KazooClient(hosts=args.hosts, timeout=args.timeout)

    def tell(state):
        say(f"-- {state}")

    client.add_listener(tell)
    try:
        client.start(timeout=30)
    except client.handler.timeout_exception:
        sys.exit(f"no server answers at {args.hosts}")
    try:
        client.retry(client.ensure_path, args.root)
        yield client
    except KeyboardInterrupt:
        pass
    finally:
        client.remove_listener(tell)
        client.stop()
        client.close()


def in_background(work, *arguments):
    """Runs the work on a thread of its own until the client is closed."""

    def run():
        with contextlib.suppress(ConnectionClosedError):
            work(*arguments)

    threading.Thread(target=run, daemon=True).start()


def sequence(name):
    """The number at the end of a sequential node's name. Sort by it, and never by the whole name."""
    return int(name[-10:])


def create_sequential(client, prefix, data=b"", ephemeral=False):
    """Creates one sequential node and returns its name.

    After ConnectionLoss the node may exist, and a second create would make a second node under another number:
    an item twice in a queue, or a contender for a lock who waits for himself. So the name holds an id by which the
    node is found again. The sync before the look makes the server that answers as new as the leader. What was
    not executed by then never is: servers refuse what an old connection of a session still has on the way.
    """
    parent, own = prefix.rsplit("/", 1)[0], f"{uuid.uuid4().hex}-"
    while True:
        try:
            return client.create(prefix + own, data, ephemeral=ephemeral, sequence=True).rsplit("/", 1)[1]
        except (ConnectionLoss, SessionExpiredError):
            client.retry(client.sync, parent)
            for name in client.retry(client.get_children, parent):
                if own in name:
                    return name


def create_ephemeral(client, path, data=b""):
    """Creates the node for the life of this session; False if it is somebody else's.

    NodeExists does not mean somebody else: it is also what a second try hears after the answer to the first
    was lost. The owner in the Stat decides.
    """
    while True:
        try:
            client.retry(client.create, path, data, ephemeral=True)
            return True
        except NodeExistsError:
            stat, own = client.retry(client.exists, path), client.client_id
            if stat and own:
                return stat.ephemeralOwner == own[0]


def register(client, path):
    """Creates the node for the life of this session, when it is nobody's any more. A program that was killed and
    starts again meets the node of its former self: taken for its own, it would vanish with the old session."""
    while not create_ephemeral(client, path):
        gone = threading.Event()
        if client.retry(client.exists, path, watch=lambda event: gone.set()):
            gone.wait()


def stay_registered(client, path, told):
    """Registers now, and again in each later session; calls `told` each time. For a thread of its own."""
    lost = threading.Event()
    client.add_listener(lambda state: lost.set() if state == "LOST" else None)
    while True:
        # Cleared before the node is made: a session that ends behind that sets it again.
        lost.clear()
        register(client, path)
        told()
        lost.wait()
