"""Prices: the settings' own before the list; an unknown price is unknown."""

import pytest

from capture.exchange import Usage
from capture.prices import cost_usd
from capture.settings import PriceSettings

USAGE = Usage(1000, 100)


def test_the_bundled_list_knows_common_models() -> None:
    assert cost_usd("gpt-4.1", USAGE, {}) == pytest.approx(1000 * 2e-6 + 100 * 8e-6)


def test_cached_tokens_are_cheaper() -> None:
    cached = cost_usd("gpt-4.1", Usage(1000, 100, cached_tokens=900), {})
    assert cached is not None
    assert cached < 1000 * 2e-6 + 100 * 8e-6


def test_more_cached_tokens_than_tokens_is_no_error() -> None:
    assert cost_usd("gpt-4.1", Usage(10, 1, cached_tokens=99), {}) is not None


@pytest.mark.parametrize("model", ["", "no-such-model-xyz", "triage-student-1"])
def test_an_unknown_price_is_unknown(model: str) -> None:
    assert cost_usd(model, USAGE, {}) is None


def test_no_usage_has_no_cost() -> None:
    assert cost_usd("gpt-4.1", None, {}) is None


def test_own_prices_go_first_exact_names_before_patterns() -> None:
    own = {"student-*": PriceSettings(input=1, output=2), "student-7": PriceSettings(input=0, output=0)}
    own["gpt-4.1"] = PriceSettings(input=10, output=0)
    assert cost_usd("student-1", USAGE, own) == pytest.approx(1000e-6 + 200e-6)
    assert cost_usd("student-7", USAGE, own) == 0
    assert cost_usd("gpt-4.1", USAGE, own) == pytest.approx(0.01)
