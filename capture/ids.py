"""Identifiers: UUIDv7 in hexadecimal, so that sorting by id is sorting by time (RFC 9562, section 5.7)."""

import os
import time

_VARIANT = "89ab"


def new_id(prefix: str = "") -> str:
    """`prefix` and 32 hexadecimal digits: 48 bits of Unix milliseconds, 74 random bits, version 7, variant 10."""
    random = os.urandom(10)
    digits = random.hex()
    return f"{prefix}{time.time_ns() // 1_000_000:012x}7{digits[:3]}{_VARIANT[random[9] & 3]}{digits[3:18]}"
