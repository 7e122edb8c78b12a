"""Gives each client program the servers that it asks for, and takes them away under it.

A connection to the control port is one server, which ends with the connection. Lines go to and fro:

    start NAME=VALUE ...    starts it with these lines in its zoo.cfg: `port N`
    start                   starts it again, on its data and its port: `port N`
    stop, kill              ends it by SIGTERM, or by SIGKILL: `ok`

and `failed: TEXT` to whatever did not succeed.
"""

import pathlib
import socket
import sys
import threading

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "lib"), str(HERE.parent / "differential")]

from server import PATIENCE_S, Server  # noqa: E402
from servers import Apache, SUPER_DIGEST, fetched  # noqa: E402

# Beside what tests/lib/server.py writes: containers and TTL nodes, looked at often, and a super user (super:secret).
OPTIONS = {"extendedTypesEnabled": "true"}
REAPED_MS = 100
PROPERTIES = {"znode.container.checkIntervalMs": REAPED_MS, "zookeeper.DigestAuthenticationProvider.superDigest": SUPER_DIGEST}


def make(against, shards, properties=None, **options):
    """A server that is not started yet: ours in a placement, or Apache's."""
    properties = {**PROPERTIES, **(properties or {})}
    if against == "ours":
        return Server(properties=properties, **{**OPTIONS, "shards": shards, **options})
    fetched()
    server = Apache("extended")
    server.properties = properties
    server.options.update({"tickTime": 500, "minSessionTimeout": 500, **OPTIONS, **options})
    return server


class Control:
    """Listens until it is closed; `port` is for the client programs."""

    def __init__(self, against, shards):
        self.against, self.shards = against, shards
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.serving = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.serving.append(threading.Thread(target=self.serve, args=(connection,), daemon=True))
            self.serving[-1].start()

    def serve(self, connection):
        server = None
        try:
            with connection, connection.makefile("rw", encoding="utf-8", newline="\n") as lines:
                for line in lines:
                    word, *options = line.split()
                    try:
                        if word == "start":
                            server = server or make(self.against, self.shards, **dict(option.split("=", 1) for option in options))
                            server.start()
                            answer = f"port {server.port}"
                        else:
                            {"stop": server.stop, "kill": server.kill9}[word]()
                            answer = "ok"
                    except Exception as error:
                        answer = "failed: " + repr(error)
                    lines.write(answer + "\n")
                    lines.flush()
        except OSError:
            pass
        finally:
            if server:
                server.close()

    def close(self):
        """The programs have ended, and with them the connections: so do the servers."""
        self.listener.close()
        for thread in self.serving:
            thread.join(PATIENCE_S)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
