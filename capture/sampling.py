"""Which exchanges are kept, and which of those are held out: hashes, so that both can be told again. Pure."""

import hashlib

from capture.settings import DatasetSettings, SamplingSettings


def keep(task: str | None, settings: SamplingSettings, key: str) -> tuple[bool, float]:
    """Whether the exchange (or conversation) `key` is kept, and the probability with which one of its kind is.

    The same key, task and seed always decide alike; estimates over kept rows are unbiased when weighted by 1 / p.
    """
    if settings.rate >= 1:
        return True, 1.0
    return uniform("sample", f"{settings.seed}\0{task or ''}\0{key}") < settings.rate, settings.rate


def is_holdout(conversation: str, settings: DatasetSettings) -> bool:
    """Whether a conversation (its hash) belongs to the sealed holdout. Independent of sampling, user and stratum."""
    return uniform("holdout", conversation) < settings.holdout


def uniform(purpose: str, key: str) -> float:
    """A number in [0, 1) that `key` always gets for this purpose (at most 16 characters); 53 bits of BLAKE2b."""
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8, person=purpose.encode()).digest()
    return (int.from_bytes(digest, "little") >> 11) / (1 << 53)
