"""A minute of requests, streams and disconnects through a gateway process: memory, sockets and tasks stay flat."""

import pytest

from benchmarks.soak import LEFT, STREAMS, soak

SECONDS = 60


@pytest.mark.timeout(400)
def test_a_minutes_load_leaves_nothing_behind() -> None:
    found = soak(None, SECONDS)
    assert found.problems == []
    assert found.streams > found.requests * STREAMS / 2
    assert found.left > found.requests * LEFT / 2
