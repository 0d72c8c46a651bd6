"""What in a text is personal or secret: one function a kind, text → spans. Pure.

A pattern proposes, a checksum or the surroundings decide; each kind first looks for a character that it cannot do
without, since most texts hold nothing.
"""

import ipaddress
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from capture.checksums import (
    digits_of,
    iban_remainder,
    is_cpf,
    is_dni,
    is_german_tax_id,
    is_nir,
    is_pesel,
    luhn_digit,
)


@dataclass(frozen=True, slots=True)
class Span:
    """`text[start:end]` is a value of this kind."""

    start: int
    end: int
    kind: str


Find = Callable[[str], Iterator[Span]]

_DIGIT = re.compile(r"\d")
_ESCAPE = r"(?<=\\[nrt])"  # an escape sequence in quoted text or code ends where a value begins
_WORD = rf"(?:(?<![A-Za-z0-9_])|{_ESCAPE})"
_NUMBER = rf"(?:(?<![\w.-])|{_ESCAPE})"

_SIX_DIGITS = re.compile(r"\d(?:\W{0,3}\d){5}")  # what every national id has
_SEVEN_DIGITS = re.compile(r"\d(?:\W{0,3}\d){6}")  # what cards, accounts and phones have

_LOCAL = re.compile(rf"(?:(?<![\w.+%-])|{_ESCAPE})[\w.!#$%&'*+/=?^`{{|}}~-]*[\w+/=?^~-]$")
_DOMAIN = re.compile(r"(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.)+[^\W\d_]{2,24}(?![\w-])")
_LOCAL_CHARACTERS = 65


def emails(text: str) -> Iterator[Span]:
    """Addresses with a dotted domain."""
    at = text.find("@")
    while at >= 0:
        domain = _DOMAIN.match(text, at + 1)
        first = max(0, at - _LOCAL_CHARACTERS)
        local = _LOCAL.search(text[first:at]) if domain else None
        if domain and local:
            name = local.group()
            start = at - len(name.lstrip("'`{/=*|~.!#$%&?^"))
            if text[start - 1 : start] == "\\" and text[start] in "nrt":
                start += 1
            if start < at:
                yield Span(start, domain.end(), "email")
        at = text.find("@", at + 1)


_CARD = re.compile(_NUMBER + r"(?<!\+)\d(?:[ -]?\d){11,18}(?![\w-])(?!\.\d)")


def cards(text: str) -> Iterator[Span]:
    """12 to 19 digits, alone or in groups, that begin as a card's do and pass Luhn's test (ISO/IEC 7812-1)."""
    if not _SEVEN_DIGITS.search(text):
        return
    for match in _CARD.finditer(text):
        digits = digits_of(match.group())
        if digits[0] in "23456" and luhn_digit(digits[:-1]) == digits[-1] and len(set(digits)) > 1:
            yield Span(match.start(), match.end(), "card")


_IBAN = re.compile(
    r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]{4}){2,7}(?:[ -]?[A-Z0-9]{1,3})?(?![A-Za-z0-9])", re.IGNORECASE
)
_IBAN_COUNTRIES = {  # by length
    15: "NO", 16: "BE", 18: "DK FI FO GL NL", 19: "MK SI", 20: "AT BA EE KZ LT LU XK", 21: "CH HR LI LV",
    22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ TL", 24: "AD CZ ES MD PK RO SA SE SK TN VG", 25: "LY PT ST",
    26: "IS TR", 27: "FR GR IT MC MR SM", 28: "AL AZ BY CY DO GT HU LB PL SV", 29: "BR EG PS QA UA",
    30: "JO KW MU", 31: "MT SC", 32: "LC",
}  # fmt: skip
_IBAN_LENGTHS = {country: length for length, names in _IBAN_COUNTRIES.items() for country in names.split()}


def ibans(text: str) -> Iterator[Span]:
    """Account numbers of a known country and length whose check digits are right (ISO 13616, mod 97)."""
    if not _SEVEN_DIGITS.search(text):
        return
    for match in _IBAN.finditer(text):
        end = _iban_end(match.group())
        if end:
            yield Span(match.start(), match.start() + end, "iban")


def _iban_end(candidate: str) -> int:
    """Where the IBAN that `candidate` begins with ends; a following word may have been taken along."""
    length = _IBAN_LENGTHS.get(candidate[:2].upper(), 0)
    taken = 0
    for position, character in enumerate(candidate):
        taken += character.isalnum()
        if length and taken == length:
            compact = "".join(filter(str.isalnum, candidate[: position + 1])).upper()
            following = candidate[position + 1 : position + 2]
            return position + 1 if iban_remainder(compact) == 1 and not following.isalnum() else 0
    return 0


_PHONE = re.compile(
    rf"(?:(?<![\w.,/:@#$€£=-])|(?<=\w:)|{_ESCAPE})"
    r"(?:\+|00|\()?\(?\d[\d ()./\u2011\u00a0-]{5,20}\d(?![\w@])(?![.,:/-]\d)"
)
_PHONE_WORD = re.compile(
    r"(?:\b(?:tel|telefon\w*|phone|telephone|mobile?|handy\w*|cell|call|fax|whatsapp|sms|ruf\w*|anruf\w*|t[ée]l[ée]phone|móvil)\b)"
    r"[^\d\n]{0,24}$",
    re.IGNORECASE,
)
_NORTH_AMERICAN = re.compile(r"(?:\+?1[ .-]?)?(?:\([2-9]\d\d\) ?|[2-9]\d\d[ .-])[2-9]\d\d[ .-]\d{4}")
_DATE_LIKE = re.compile(r"(?:\d{4}[-./ ]\d{1,2}[-./ ]\d{1,2}|\d{1,2}[-./ ]\d{1,2}[-./ ]\d{2,4})(?:\D.*)?")


def phones(text: str) -> Iterator[Span]:
    """International numbers, North American ones, national ones in groups, and any digits that are called a number."""
    if not _SEVEN_DIGITS.search(text):
        return
    for match in _PHONE.finditer(text):
        found = match.group()
        start = match.start()
        while found.startswith("(") and found.count("(") > found.count(")"):  # the bracket is the sentence's
            found = found[1:]
            start += 1
        if _is_phone(found, text[max(0, start - 40) : start]):
            yield Span(start, match.end(), "phone")


def _is_phone(found: str, before: str) -> bool:
    digits = digits_of(found)
    if not 7 <= len(digits) <= 15 or _DATE_LIKE.fullmatch(found):
        return False
    if found.startswith("+"):
        return digits[0] != "0" and len(digits) >= 8
    if _NORTH_AMERICAN.fullmatch(found):
        return True
    grouped = any(mark in found for mark in " -/()")
    if digits.startswith("0") and grouped and len(digits) >= 9 and digits[:3] != "000":
        return True
    return bool(_PHONE_WORD.search(before))


_IPV4 = re.compile(_NUMBER + r"(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\w-])(?!\.\d)")
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}(?:[0-9A-Fa-f]{1,4}|(?:\d{1,3}\.){3}\d{1,3})?(?![\w:])")
_DOTTED = re.compile(r"\d\.\d{1,3}\.\d")
_COLONS = re.compile(r":[0-9A-Fa-f]{0,4}:")
_NOBODYS = frozenset({"127.0.0.1", "0.0.0.0", "255.255.255.255"})  # noqa: S104
_VERSION_WORD = re.compile(r"(?:\bv|version|release|build|chapter|section|kapitel|abschnitt|§)\.?:? ?$", re.IGNORECASE)


def addresses(text: str) -> Iterator[Span]:
    """IPv4 and IPv6 addresses but for loopback and unspecified ones; what is called a version is none."""
    if _DOTTED.search(text):
        for match in _IPV4.finditer(text):
            before = text[max(0, match.start() - 10) : match.start()]
            if match.group() not in _NOBODYS and not _VERSION_WORD.search(before):
                yield Span(match.start(), match.end(), "ip")
    if _COLONS.search(text):
        for match in _IPV6.finditer(text):
            if _is_ipv6(match.group()):
                yield Span(match.start(), match.end(), "ip")


def _is_ipv6(text: str) -> bool:
    if text in ("::", "::1") or (text.count(":") < 4 and "::" not in text):
        return False
    try:
        return len(ipaddress.IPv6Address(text).exploded) > 0 and any(character.isdigit() for character in text)
    except ValueError:
        return False


_TOKENS = re.compile(
    _WORD + r"(?:"
    r"(?:sk|pk|rk)[-_][A-Za-z0-9_-]{16,}"
    r"|gh[opsur]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_-]{16,}"
    r"|(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{16}|AIza[A-Za-z0-9_-]{30,}|ya29\.[A-Za-z0-9_-]{20,}"
    r"|xox[abeoprs]-[A-Za-z0-9-]{10,}|hf_[A-Za-z0-9]{20,}|npm_[A-Za-z0-9]{30,}|pypi-[A-Za-z0-9_-]{30,}"
    r"|SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}|shk_[A-Za-z0-9_-]{16,}|dop_v1_[0-9a-f]{32,}"
    r"|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"
    r")"
)
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----\s*(.+?)\s*(?:-----END|\Z)", re.DOTALL)
_ASSIGNED = re.compile(
    r"(?:pass(?:word|wd|phrase|wort)?|pwd|secret|token|api[-_ ]?key|access[-_ ]?key|auth(?:orization)?|credential"
    r"|signature|sig|kennwort)"
    r"[\"']?\s{0,3}(?:[:=]|\bis\b|\bist\b|\blautet\b)\s{0,3}(?:(?:Bearer|Basic|Token)\s+)?[\"']?([^\s\"'&,;<>{}\\]{6,})",
    re.IGNORECASE,
)
_BEARER = re.compile(r"\b(?:Bearer|Basic)\s+([A-Za-z0-9._~+/=-]{16,})")
_USERINFO = re.compile(r"\b[a-z][a-z0-9+.-]{1,20}://([^\s/@:\"']{0,64}:[^\s/@\"']{1,128})@", re.IGNORECASE)
_IN_QUERY = re.compile(r"[?&#](?:key|sig|sid|jwt|session)=([^\s&#\"'<>]{6,})", re.IGNORECASE)
_DENSE = re.compile(r"(?<![A-Za-z0-9_+/=.-])[A-Za-z0-9_+/=-]{32,512}(?![A-Za-z0-9_+/=-])")
_HEX_OR_UUID = re.compile(r"(?:[0-9a-fA-F]+|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})")
_SHORTEST_TOKEN = 15
_SHORTEST_SECRET = 6
_ASSIGNED_WORDS = ("pass", "pwd", "secret", "token", "key", "auth", "credential", "sig", "kennwort")
_DENSE_BITS = 4.0  # per character; words and identifiers stay below


def secrets(text: str) -> Iterator[Span]:
    """Keys and tokens by their form, what is assigned to a password, credentials in URLs, and dense random strings."""
    longest = max(map(len, text.split()), default=0)
    if longest >= _SHORTEST_TOKEN:
        yield from _tokens(text)
    if longest >= _SHORTEST_SECRET:
        yield from _assigned(text)
    if "PRIVATE KEY" in text:
        for match in _PRIVATE_KEY.finditer(text):
            yield Span(match.start(1), match.end(1), "secret")


def _tokens(text: str) -> Iterator[Span]:
    for match in _TOKENS.finditer(text):
        if _DIGIT.search(match.group()) or len(match.group()) > 30:
            yield Span(match.start(), match.end(), "secret")
    if "://" in text:
        for match in _USERINFO.finditer(text):
            yield Span(match.start(1), match.end(1), "secret")
        for match in _IN_QUERY.finditer(text):
            if _looks_secret(match.group(1)):
                yield Span(match.start(1), match.end(1), "secret")
    for match in _DENSE.finditer(text):
        if _is_dense(match.group()):
            yield Span(match.start(), match.end(), "secret")


def _assigned(text: str) -> Iterator[Span]:
    low = text.lower()
    if any(word in low for word in _ASSIGNED_WORDS):
        for match in _ASSIGNED.finditer(text):
            value = match.group(1).rstrip(".!?)]")
            if _looks_secret(value):
                yield Span(match.start(1), match.start(1) + len(value), "secret")
    if "bearer " in low or "basic " in low:
        for match in _BEARER.finditer(text):
            yield Span(match.start(1), match.end(1), "secret")


def _looks_secret(value: str) -> bool:
    """Letters with digits or marks: a password, and not the next word of a sentence."""
    kinds = [any(test(character) for character in value) for test in (str.islower, str.isupper, str.isdigit)]
    marks = any(not character.isalnum() for character in value)
    return (sum(kinds) + marks >= 2 and (kinds[2] or marks)) or len(value) >= 20


def _is_dense(value: str) -> bool:
    if _HEX_OR_UUID.fullmatch(value) or not _DIGIT.search(value):
        return False
    if not any(map(str.isupper, value)) or not any(map(str.islower, value)):
        return False
    total = len(value)
    bits = -sum(count / total * math.log2(count / total) for count in Counter(value).values())
    return bits >= _DENSE_BITS


_US_SSN = re.compile(_NUMBER + r"(?!000|666|9\d\d)\d{3}-(?!00)\d\d-(?!0000)\d{4}(?![\w-])")
_ES_DNI = re.compile(r"(?<![\w-])(?:\d{8}|[XYZ]\d{7})-?[TRWAGMYFPDXBNJZSQVHLCKE](?![\w-])")
_UK_NINO = re.compile(r"(?<!\w)(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z](?: ?\d\d){3} ?[A-D](?!\w)")
_FR_NIR = re.compile(r"(?<!\w)[12] ?\d\d ?(?:0[1-9]|1[0-2]) ?(?:\d\d|2[AB]) ?\d{3} ?\d{3} ?\d\d(?!\w)")
_ELEVEN = re.compile(r"(?<![\w.+-])\d{11}(?![\w-])(?!\.\d)")
_CPF = re.compile(r"(?<![\w.])\d{3}\.\d{3}\.\d{3}-\d\d(?!\w)")


_NATIONAL: tuple[tuple[re.Pattern[str], re.Pattern[str], Callable[[str], bool]], ...] = (
    # what is quickly looked for first, the whole pattern, its check
    (re.compile(r"\d-\d\d-\d"), _US_SSN, lambda _: True),
    (re.compile(r"\d\d ?\d\d ?[A-D](?!\w)"), _UK_NINO, lambda _: True),
    (re.compile(r"\d{7}-?[A-Z]"), _ES_DNI, is_dni),
    (re.compile(r"\d ?\d{3} ?\d{3} ?\d\d"), _FR_NIR, is_nir),
    (re.compile(r"\d\.\d{3}\.\d{3}-"), _CPF, is_cpf),
    (re.compile(r"\d{11}"), _ELEVEN, lambda value: is_pesel(value) or is_german_tax_id(value)),
)


def national_ids(text: str) -> Iterator[Span]:
    """US SSN, British NINO; where checks pass, Spanish DNI, French NIR, Polish PESEL, German tax id, Brazilian CPF."""
    if not _SIX_DIGITS.search(text):
        return
    for hint, pattern, test in _NATIONAL:
        if hint.search(text):
            for match in pattern.finditer(text):
                if test(match.group()):
                    yield Span(match.start(), match.end(), "national_id")


FINDERS: dict[str, Find] = {  # in order of precedence where spans overlap
    "secret": secrets,
    "email": emails,
    "iban": ibans,
    "national_id": national_ids,  # before cards: mod 97 and a month say more than Luhn
    "card": cards,
    "ip": addresses,
    "phone": phones,
}
