"""One server for the suite, a fresh client and a chroot of its own for each test."""

import pathlib
import sys

import pytest
from kazoo.client import KazooClient

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))

from server import Server  # noqa: E402


@pytest.fixture(scope="session")
def server():
    with Server() as running:
        yield running


@pytest.fixture
def connect(server, request):
    """Makes clients below a path that is the test's own."""
    root = "/" + request.node.name.replace("[", "-").replace("]", "")
    clients = []

    def make(chroot=True, port=None, **options):
        hosts = f"127.0.0.1:{port or server.port}"
        client = KazooClient(hosts + (root if chroot else ""), timeout=options.pop("timeout", 10), **options)
        client.start(timeout=30)
        clients.append(client)
        return client

    plain = make(chroot=False)
    plain.ensure_path(root)
    yield make
    for client in clients:
        client.stop()
        client.close()


@pytest.fixture
def zk(connect):
    return connect()
