"""Stand-ins of the same form for what was recognised: chosen by a keyed hash, never to be turned back. Pure.

A student must not learn placeholders that live traffic never has, so a card becomes a card that passes Luhn's test, an
IBAN one of the same country that passes mod 97, an address one of the ranges kept for documentation.
"""

import hashlib
import random
import string

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

_DOMAINS = ("example.com", "example.org", "example.net")
_DOCUMENTATION = ("192.0.2", "198.51.100", "203.0.113")  # RFC 5737
_KEPT_PREFIX = 4  # characters of a token that only say its kind, as in `ghp_` or `eyJ`
_TRIES = 10_000


def surrogate(kind: str, value: str, secret: bytes, scope: str) -> str:
    """A value of the same kind and form as `value`; always the same one for the same secret, scope and value.

    How digits are grouped does not matter to which one is chosen, and is kept.
    """
    plain = "".join(filter(str.isalnum, value)).casefold() if kind in _GROUPED else value
    key = hashlib.blake2b(f"{scope}\0{kind}\0{plain}".encode("utf-8", "surrogatepass"), key=secret, digest_size=16)
    draws = random.Random(key.digest())  # noqa: S311 - its seed is the keyed hash
    make = _MAKERS.get(kind, _text)
    for _ in range(_TRIES):
        made = make(value, draws)
        if made.casefold() != value.casefold():
            return made
    return "".join(draws.choices(string.ascii_lowercase, k=8))


def _regrouped(value: str, characters: str) -> str:
    """`characters` in the grouping of `value`: each of its letters and digits replaced in turn."""
    rest = iter(characters)
    return "".join(next(rest) if character.isalnum() else character for character in value)


def _digits(count: int, draws: random.Random) -> str:
    return "".join(draws.choices(string.digits, k=count))


def _email(value: str, draws: random.Random) -> str:
    local, _, _ = value.rpartition("@")
    return f"{_text(local, draws)}@{draws.choice(_DOMAINS)}"


def _card(value: str, draws: random.Random) -> str:
    digits = digits_of(value)
    body = digits[0] + _digits(len(digits) - 2, draws)
    return _regrouped(value, body + luhn_digit(body))


def _iban(value: str, draws: random.Random) -> str:
    compact = "".join(filter(str.isalnum, value)).upper()
    body = "".join(
        draws.choice(string.digits) if character.isdigit() else draws.choice(string.ascii_uppercase)
        for character in compact[4:]
    )
    check = 98 - iban_remainder(f"{compact[:2]}00{body}")
    return _regrouped(value, f"{compact[:2]}{check:02d}{body}")


def _phone(value: str, draws: random.Random) -> str:
    """The country or area code stays: the first three digits of an international number, else two."""
    digits = digits_of(value)
    kept = 3 if value.startswith("+") else 2
    first = str(draws.randint(2, 9))
    return _regrouped(value, digits[:kept] + first + _digits(len(digits) - kept - 1, draws))


def _ip(value: str, draws: random.Random) -> str:
    if ":" not in value:
        return f"{draws.choice(_DOCUMENTATION)}.{draws.randint(1, 254)}"
    return "2001:db8::" + ":".join(f"{draws.randint(1, 0xFFFF):x}" for _ in range(3))  # RFC 3849


def _national_id(value: str, draws: random.Random) -> str:
    """Drawn until the same check passes that the value passed."""
    checks = [check for check in (_dni, _nir, _cpf, _pesel, _german_tax_id) if check(value)]
    for _ in range(_TRIES):
        made = _text(value, draws, keep=1)
        if all(check(made) for check in checks):
            return made
    return _text(value, draws, keep=1)


def _dni(text: str) -> bool:
    return (
        text[-1].isalpha() and digits_of(text[1:-1]) != "" and len(text.replace("-", "")) == 9 and _sound(is_dni, text)
    )


def _nir(text: str) -> bool:
    return len(text.replace(" ", "")) == 15 and _sound(is_nir, text)


def _cpf(text: str) -> bool:
    return "." in text and is_cpf(text)


def _pesel(text: str) -> bool:
    return len(text) == 11 and text.isdigit() and is_pesel(text)


def _german_tax_id(text: str) -> bool:
    return len(text) == 11 and text.isdigit() and is_german_tax_id(text)


def _sound(check: object, text: str) -> bool:
    try:
        return bool(callable(check) and check(text))
    except ValueError:
        return False


def _secret(value: str, draws: random.Random) -> str:
    return _text(value, draws, keep=_KEPT_PREFIX if len(value) >= 20 else 0)


def _text(value: str, draws: random.Random, keep: int = 0) -> str:
    """Letters become letters of the same case, digits digits; all else, and the first `keep` characters, stay."""
    return value[:keep] + "".join(_alike(character, draws) for character in value[keep:])


def _alike(character: str, draws: random.Random) -> str:
    if character.isdecimal():
        return draws.choice(string.digits)
    if character.isupper():
        return draws.choice(string.ascii_uppercase)
    return draws.choice(string.ascii_lowercase) if character.isalpha() else character


_GROUPED = frozenset({"card", "iban", "phone", "national_id"})
_MAKERS = {
    "email": _email,
    "card": _card,
    "iban": _iban,
    "phone": _phone,
    "ip": _ip,
    "national_id": _national_id,
    "secret": _secret,
}
