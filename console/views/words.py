"""How pages write numbers, money, times and captured text: one way for each."""

import re
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

NONE = "–"
"""Stands where there is no value; an unknown cost is never shown as 0."""

COUNT_CAP = 10_000

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~:$&])")
_ADDRESSES = re.compile(r"://|www\.|(?<=\w)@(?=[\w-]+\.)", re.IGNORECASE)
"""What Markdown would turn into links; a word joiner in it keeps it text."""
_LETTERS = re.compile(r"[\x00-\x1f\x7f\u200b-\u200f\u202a-\u202e\u2066-\u2069]")


def plain(text: object) -> str:
    """Text for a label or a message, which Streamlit reads as Markdown: shown letter for letter, on one line."""
    return escaped(text).strip()


def escaped(text: object) -> str:
    """As `plain`, for a piece of a line: spaces at its ends stay."""
    unlinked = _ADDRESSES.sub(lambda found: f"{found[0][0]}\u2060{found[0][1:]}", _LETTERS.sub(" ", str(text)))
    return _MARKDOWN.sub(r"\\\1", unlinked)


def count(number: int | None) -> str:
    return NONE if number is None else f"{number:,}"


def capped(number: int, cap: int = COUNT_CAP) -> str:
    """A count that stopped at `cap`: "10,000+" there and beyond."""
    return f"{cap:,}+" if number >= cap else f"{number:,}"


def money(usd: float | None) -> str:
    """US dollars with as many digits as matter; unknown is a dash."""
    if usd is None:
        return NONE
    if usd == 0:
        return "$0"
    sign, size = ("−" if usd < 0 else ""), abs(usd)
    if size < 0.01:
        return f"{sign}${size:.2g}" if size >= 0.0001 else f"{sign}<$0.0001"
    return f"{sign}${size:,.2f}" if size < 1000 else f"{sign}${size:,.0f}"


def percent(share: float | None) -> str:
    return NONE if share is None else f"{share * 100:.3g} %"


def score(value: float | None) -> str:
    """A score in [0, 1] as percent with one digit."""
    return NONE if value is None else f"{value * 100:.1f} %"


def interval(low: float | None, high: float | None) -> str:
    """Bounds of a share in [0, 1]."""
    return NONE if low is None or high is None else f"{low * 100:.1f}–{high * 100:.1f} %"


def milliseconds(duration: float | None) -> str:
    if duration is None:
        return NONE
    return f"{duration:,.0f} ms" if duration < 1000 else f"{duration / 1000:,.1f} s"


def span(seconds: float | None) -> str:
    """A length of time in its two largest units: "3 min 20 s"."""
    if seconds is None:
        return NONE
    left = max(0, round(seconds))
    parts = []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if left >= size:
            parts.append(f"{left // size} {unit}")
            left %= size
    return " ".join(parts[:2]) or "0 s"


def zone_of(name: str | None) -> tzinfo:
    """The reader's zone by its name; UTC when the browser has not said, or says something unknown."""
    try:
        return ZoneInfo(name) if name else UTC
    except (ZoneInfoNotFoundError, ValueError):
        return UTC


def moment(unix_s: float | None, zone: tzinfo) -> datetime | None:
    """For a table's time column."""
    return None if unix_s is None else datetime.fromtimestamp(unix_s, zone)


def when(unix_s: float | None, zone: tzinfo) -> str:
    """A time in a sentence: "24 Nov 2026, 13:05:09 CET"."""
    found = moment(unix_s, zone)
    return NONE if found is None else f"{found:%d %b %Y, %H:%M:%S %Z}"


def size(number: int) -> str:
    amount = float(number)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.3g} GB"


def short(identity: str, digits: int = 8) -> str:
    """The end of an id, which is what differs between neighbours in time."""
    return identity if len(identity) <= digits + 1 else f"…{identity[-digits:]}"
