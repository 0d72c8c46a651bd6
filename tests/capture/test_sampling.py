"""Sampling and holdout: repeatable, at the stated rate, and independent of each other."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.sampling import is_holdout, keep, uniform
from capture.settings import DatasetSettings, SamplingSettings

KEYS = [f"{number:032x}" for number in range(20_000)]


@pytest.mark.parametrize("rate", [0.01, 0.3, 0.9])
def test_the_kept_share_is_the_rate_and_is_told(rate: float) -> None:
    decisions = [keep("triage", SamplingSettings(rate=rate, seed=3), key) for key in KEYS]
    share = sum(kept for kept, _ in decisions) / len(KEYS)
    assert abs(share - rate) < 4 * (rate * (1 - rate) / len(KEYS)) ** 0.5
    assert {probability for _, probability in decisions} == {rate}


def test_a_rate_of_one_keeps_all() -> None:
    assert all(keep(None, SamplingSettings(), key) == (True, 1.0) for key in KEYS[:100])


@given(key=st.text(max_size=40), seed=st.integers(0, 9), rate=st.floats(0.01, 0.98), more=st.floats(0, 0.01))
def test_a_key_is_decided_alike_and_a_higher_rate_keeps_what_a_lower_kept(
    key: str, seed: int, rate: float, more: float
) -> None:
    first = keep("triage", SamplingSettings(rate=rate, seed=seed), key)
    assert keep("triage", SamplingSettings(rate=rate, seed=seed), key) == first
    if first[0]:
        assert keep("triage", SamplingSettings(rate=rate + more, seed=seed), key)[0]


def test_seeds_tasks_and_purposes_draw_apart() -> None:
    settings = SamplingSettings(rate=0.5)
    kept = [keep("triage", settings, key)[0] for key in KEYS]
    for other in (
        [keep("triage", SamplingSettings(rate=0.5, seed=1), key)[0] for key in KEYS],
        [keep("other", settings, key)[0] for key in KEYS],
        [is_holdout(key, DatasetSettings(holdout=0.5)) for key in KEYS],
    ):
        agreement = sum(a == b for a, b in zip(kept, other, strict=True)) / len(KEYS)
        assert 0.48 < agreement < 0.52


def test_the_holdout_has_its_share() -> None:
    share = sum(is_holdout(key, DatasetSettings(holdout=0.1)) for key in KEYS) / len(KEYS)
    assert 0.09 < share < 0.11


@given(key=st.text())
def test_draws_lie_in_the_unit_interval(key: str) -> None:
    assert 0 <= uniform("sample", key) < 1
