"""One server for a module; tests that need one of their own start it."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import harness  # noqa: E402


@pytest.fixture(scope="module")
def server():
    with harness.serving() as running:
        yield running


@pytest.fixture
def fresh():
    with harness.serving() as running:
        yield running


@pytest.fixture
def path(request):
    return "/" + request.node.name.replace("[", "-").replace("]", "")
