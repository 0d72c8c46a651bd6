"""Sampling and holdout: repeatable, at the stated rate, and independent of each other."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from capture.sampling import Traits, is_holdout, keep, rate_of, thinned, uniform
from capture.settings import DatasetSettings, SamplingSettings, StratumSettings
from capture.strata import language_of, length_of

KEYS = [f"{number:032x}" for number in range(20_000)]


@pytest.mark.parametrize("rate", [0.01, 0.3, 0.9])
def test_the_kept_share_is_the_rate_and_is_told(rate: float) -> None:
    decisions = [keep("triage", SamplingSettings(rate=rate, seed=3), key) for key in KEYS]
    share = sum(kept for kept, _ in decisions) / len(KEYS)
    assert abs(share - rate) < 4 * (rate * (1 - rate) / len(KEYS)) ** 0.5
    assert {probability for _, probability in decisions} == {rate}


def test_a_rate_of_one_keeps_all() -> None:
    assert all(keep(None, SamplingSettings(), key) == (True, 1.0) for key in KEYS[:100])


@settings(deadline=None)
@given(key=st.text(max_size=40), seed=st.integers(0, 9), rate=st.floats(0.01, 0.98), more=st.floats(0, 0.01))
def test_a_key_is_decided_alike_and_a_higher_rate_keeps_what_a_lower_kept(
    key: str, seed: int, rate: float, more: float
) -> None:
    first = keep("triage", SamplingSettings(rate=rate, seed=seed), key)
    assert keep("triage", SamplingSettings(rate=rate, seed=seed), key) == first
    if first[0]:
        assert keep("triage", SamplingSettings(rate=rate + more, seed=seed), key)[0]


def test_seeds_tasks_and_purposes_draw_apart() -> None:
    sampling = SamplingSettings(rate=0.5)
    kept = [keep("triage", sampling, key)[0] for key in KEYS]
    for other in (
        [keep("triage", SamplingSettings(rate=0.5, seed=1), key)[0] for key in KEYS],
        [keep("other", sampling, key)[0] for key in KEYS],
        [is_holdout(key, DatasetSettings(holdout=0.5)) for key in KEYS],
    ):
        agreement = sum(a == b for a, b in zip(kept, other, strict=True)) / len(KEYS)
        assert 0.48 < agreement < 0.52


def test_the_holdout_has_its_share() -> None:
    share = sum(is_holdout(key, DatasetSettings(holdout=0.1)) for key in KEYS) / len(KEYS)
    assert 0.09 < share < 0.11


@settings(deadline=None)
@given(key=st.text())
def test_draws_lie_in_the_unit_interval(key: str) -> None:
    assert 0 <= uniform("sample", key) < 1


TRAITS = Traits(label="billing", language="de", length="short", prompt_version="v1")


def test_the_first_stratum_that_fits_decides() -> None:
    strata = (
        StratumSettings(rate=0.9, label="refund"),
        StratumSettings(rate=0.5, label="billing", language="en"),
        StratumSettings(rate=0.4, label="billing", language="de"),
        StratumSettings(rate=0.3, length="short"),
        StratumSettings(rate=0.2, prompt_version="v2"),
    )
    sampling = SamplingSettings(rate=0.1, strata=strata)
    assert rate_of(sampling, TRAITS) == 0.4
    assert rate_of(sampling, replace(TRAITS, label="refund")) == 0.9
    assert rate_of(sampling, replace(TRAITS, label=None)) == 0.3
    assert rate_of(sampling, replace(TRAITS, label=None, length="long")) == 0.1
    assert rate_of(sampling, Traits(None, None, "long", "v2")) == 0.2


def test_a_stratum_says_which_exchanges() -> None:
    with pytest.raises(ValidationError, match="a stratum says which"):
        StratumSettings(rate=0.5)


@given(cap=st.integers(1, 1000), many=st.integers(1, 200_000))
@settings(max_examples=50, deadline=None)
def test_beyond_its_cap_an_owner_is_thinned_and_twice_of_it_is_never_expected(cap: int, many: int) -> None:
    chances = [thinned(cap, number) for number in range(1, many + 1)]
    assert chances[:cap] == [1.0] * min(cap, many)
    assert all(0 < later <= sooner for sooner, later in pairwise(chances))
    assert sum(chances) <= 2 * cap
    assert thinned(None, many) == 1.0


@pytest.mark.parametrize(("text", "language"), [("Wo ist mein Paket und der Bote?", "de"), ("xyzzy", None)])
def test_languages(text: str, language: str | None) -> None:
    assert language_of(text) == language


def test_lengths() -> None:
    assert [length_of("x" * many) for many in (0, 399, 400, 1999, 2000)] == ["short"] * 2 + ["medium"] * 2 + ["long"]
