"""Which exchanges are kept, and which of those are held out: hashes, so that both can be told again. Pure."""

import hashlib
from dataclasses import dataclass

from capture.settings import DatasetSettings, SamplingSettings, StratumSettings

DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Traits:
    """What strata tell exchanges apart by; None: not known."""

    label: str | None
    language: str | None
    length: str
    prompt_version: str | None


def keep(
    task: str | None, settings: SamplingSettings, key: str, probability: float | None = None
) -> tuple[bool, float]:
    """Whether the exchange (or conversation) `key` is kept, and the probability with which one of its kind is.

    `probability` None: the task's rate. The same key, task and seed always decide alike; estimates over kept rows are
    unbiased when weighted by 1 / p.
    """
    wanted = settings.rate if probability is None else probability
    if wanted >= 1:
        return True, 1.0
    return uniform("sample", f"{settings.seed}\0{task or ''}\0{key}") < wanted, wanted


def rate_of(settings: SamplingSettings, traits: Traits) -> float:
    """The rate of the first stratum that the exchange is in, else the task's."""
    return next((stratum.rate for stratum in settings.strata if _holds(stratum, traits)), settings.rate)


def _holds(stratum: StratumSettings, traits: Traits) -> bool:
    asked = ("label", "language", "length", "prompt_version")
    return all(getattr(stratum, name) in (None, getattr(traits, name)) for name in asked)


def thinned(cap: int | None, number: int) -> float:
    """The probability with which the `number`-th exchange of an owner on a day stays: 1 up to the cap, then
    (cap / number)². The sum over all beyond the cap is below the cap: no more than twice of it is expected to stay, and
    every one that does has a known probability."""
    return 1.0 if cap is None or number <= cap else (cap / number) ** 2


def is_holdout(conversation: str, settings: DatasetSettings) -> bool:
    """Whether a conversation (its hash) belongs to the sealed holdout. Independent of sampling, user and stratum."""
    return uniform("holdout", conversation) < settings.holdout


def uniform(purpose: str, key: str) -> float:
    """A number in [0, 1) that `key` always gets for this purpose (at most 16 characters); 53 bits of BLAKE2b."""
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8, person=purpose.encode()).digest()
    return (int.from_bytes(digest, "little") >> 11) / (1 << 53)
