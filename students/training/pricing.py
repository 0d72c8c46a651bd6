"""What training at an upstream costs, by the settings' prices."""

from collections.abc import Mapping
from fnmatch import fnmatchcase

from capture.settings import PriceSettings


def training_cost(model: str, tokens: int, prices: Mapping[str, PriceSettings]) -> float | None:
    """US dollars for training a model of this name on so many tokens; None without a price for it."""
    matching = (price for name, price in prices.items() if fnmatchcase(model, name))
    price = prices.get(model) or next(matching, None)
    return None if price is None or price.training is None else tokens * price.training / 1_000_000
