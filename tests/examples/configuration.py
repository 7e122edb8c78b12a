#!/usr/bin/env python3
"""A configuration centre: programs that run learn of a change at once.

    terminal 1:  python3 tests/examples/configuration.py
    terminal 2:  python3 tests/examples/configuration.py colour=red size=4

The first prints the configuration, and each time the second changes it, the new one. Take the server away for
a moment: it keeps what it has, and catches up when the server is back.

All settings are in one node, so that a reader never sees half of a change, and a writer says which version he has
read: two writers at once don't undo each other.

What can go wrong:
- A change between the read and the watch. Both must be one request: `get` with a watch. Who reads, and sets a watch with
  a second request, misses what happens in between, and is told of the next change only, perhaps never.
- A watch fires once. Several changes in a row may be one event: what counts is the newest configuration, not each of them.
- The watch is lost with the connection. kazoo calls it with an event of type NONE, and here every event means: read again.
- An older configuration after a newer one can't come: a client never sees a state before the one that it has seen, also on
  another server. mzxid shows it, and which of two configurations is the newer one.
"""

import json
import threading

from common import arguments, say, session
from kazoo.exceptions import BadVersionError, NodeExistsError, NoNodeError


def follow(client, path):
    """Yields (mzxid, settings): the present ones, then new ones, for ever."""
    newest = 0
    while True:
        changed = threading.Event()
        try:
            data, stat = client.retry(client.get, path, watch=lambda event: changed.set())
        except NoNodeError:
            # Not there (yet): this watch fires when it is created. If it has been by now, get has the answer.
            if client.retry(client.exists, path, watch=lambda event: changed.set()):
                continue
        else:
            if stat.mzxid > newest:
                newest = stat.mzxid
                yield newest, json.loads(data)
        changed.wait()


def update(client, path, changes):
    """Changes some settings and keeps the others. After a lost answer the change may be made twice, over one that
    another writer has made to the same keys in between; counter.py shows what to do where that matters."""
    while True:
        try:
            data, stat = client.retry(client.get, path)
        except NoNodeError:
            try:
                client.retry(client.create, path, b"{}")
            except NodeExistsError:
                pass
            continue
        try:
            client.retry(client.set, path, json.dumps({**json.loads(data), **changes}).encode(), version=stat.version)
            return
        except BadVersionError:
            pass  # somebody else was faster, or an earlier try was executed: both are seen by reading again


def main():
    parser = arguments(__doc__, "/examples/configuration")
    parser.add_argument("setting", nargs="*", help="KEY=VALUE")
    args = parser.parse_args()
    with session(args) as client:
        path = f"{args.root}/settings"
        if args.setting:
            update(client, path, dict(setting.split("=", 1) for setting in args.setting))
            return
        for mzxid, settings in follow(client, path):
            say(f"configuration {mzxid}: {json.dumps(settings, sort_keys=True)}")


if __name__ == "__main__":
    main()
