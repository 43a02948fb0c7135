"""One server of the embedded model for each module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.live_server import Live, live_server

from steer import Sampler


@pytest.fixture(scope="session")
def shapes() -> Sampler:
    """The embedded model; never change it."""
    return Sampler("shapes")


@pytest.fixture(scope="module")
def live(shapes: Sampler, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server of it."""
    with live_server(shapes, tmp_path_factory.mktemp("live")) as server:
        yield server
