"""Gateway and worker killed with -9 under load: what a client had the end of is stored, once. 100 kills by command."""

from pathlib import Path

import pytest

from benchmarks.kills import killed

KILLS = 10


@pytest.mark.timeout(600)
def test_nothing_acknowledged_is_lost_and_nothing_doubled(tmp_path: Path) -> None:
    found = killed(tmp_path, KILLS)
    assert found.kills == {"gateway": KILLS // 2, "worker": KILLS // 2}
    assert found.acknowledged >= KILLS * 20
    assert (found.lost, found.doubled, found.pending) == ([], [], 0)
    assert set(found.differences.values()) == {0}
    assert found.acknowledged <= found.stored <= found.asked
