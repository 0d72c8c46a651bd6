"""What an exchange cost, by the bundled price list or the settings; an unknown price is unknown, never 0."""

from collections.abc import Mapping
from decimal import Decimal
from fnmatch import fnmatchcase
from functools import lru_cache

import genai_prices

from capture.exchange import Usage
from capture.settings import PriceSettings

_MILLION = 1_000_000


def cost_usd(model: str, usage: Usage | None, overrides: Mapping[str, PriceSettings]) -> float | None:
    """US dollars for `usage` of `model`; None when the price or the usage is not known.

    `overrides` are the settings' `prices`: an exact name goes before a pattern (`student-*`), both before the list.
    """
    if usage is None:
        return None
    own = overrides.get(model) or next((price for name, price in overrides.items() if fnmatchcase(model, name)), None)
    if own is not None:
        return (usage.input_tokens * own.input + usage.output_tokens * own.output) / _MILLION
    listed = _listed(model, usage.input_tokens, usage.output_tokens, usage.cached_tokens)
    return None if listed is None else float(listed)


@lru_cache(maxsize=4096)
def _listed(model: str, input_tokens: int, output_tokens: int, cached_tokens: int) -> Decimal | None:
    counted = genai_prices.Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cache_read_tokens=min(cached_tokens, input_tokens) or None,
    )
    try:
        return genai_prices.calc_price(counted, model_ref=model).total_price
    except (LookupError, ValueError):
        return None
