"""Identifiers: UUIDv7 in hexadecimal, so that sorting by id is sorting by time (RFC 9562, section 5.7)."""

import os
import time


def new_id(prefix: str = "") -> str:
    """`prefix` and 32 hexadecimal digits: 48 bits of Unix milliseconds, 74 random bits, version 7, variant 10."""
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10), "big")
    low = (0b10 << 62) | (random & ((1 << 62) - 1))
    value = (milliseconds << 80) | (0x7 << 76) | (((random >> 62) & 0xFFF) << 64) | low
    return f"{prefix}{value:032x}"
