"""The store locked, stopped or stalled under load (60 s of it: `python -m benchmarks.store_away`)."""

import pytest

from benchmarks.store_away import KINDS, store_away

AWAY_S = 12.0  # longer than readiness takes to notice a store that lets it wait
PER_S = 40.0


@pytest.mark.timeout(200)
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_fails_and_nothing_is_lost_while_the_store_is_away(kind: str) -> None:
    found = store_away(kind, AWAY_S, PER_S)
    assert found.problems == []
    assert found.waiting > AWAY_S
    assert {said.partition(" ")[0] for said in found.readiness} == {"200"}
    assert ("200 away" in found.readiness) == (kind != "sqlite-locked")  # a locked SQLite can still be read
