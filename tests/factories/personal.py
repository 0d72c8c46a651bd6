"""Made-up personal data and secrets of every kind, sentences to put them in, and harmless look-alikes."""

import random
import re
from collections.abc import Callable, Iterator
from itertools import pairwise

from capture.checksums import iban_remainder, is_cpf, is_german_tax_id, is_pesel, luhn_digit

IBANS = ("DE89370400440532013000", "GB82WEST12345698765432", "FR1420041010050500013M02606", "NL91ABNA0417164300")


def card(draws: random.Random) -> str:
    body = draws.choice("3456") + "".join(draws.choices("0123456789", k=14))
    digits = body + luhn_digit(body)
    return draws.choice([digits, " ".join(re.findall("....", digits)), "-".join(re.findall("....", digits))])


def iban(draws: random.Random) -> str:
    model = draws.choice(IBANS)
    body = "".join(draws.choice("0123456789") if c.isdigit() else c for c in model[4:])
    check = 98 - iban_remainder(f"{model[:2]}00{body}")
    whole = f"{model[:2]}{check:02d}{body}"
    return draws.choice([whole, " ".join(re.findall(".{1,4}", whole))])


def email(draws: random.Random) -> str:
    name = draws.choice(["jane.doe", "j_smith", "o'neil", "max+tag", "a", "Ünal"]) + str(draws.randint(0, 99))
    return f"{name}@{draws.choice(['corp.io', 'mail.company.co.uk', 'uni-köln.de', 'x.museum'])}"


def phone(draws: random.Random) -> str:
    number = "".join(draws.choices("123456789", k=9))
    return draws.choice(
        [
            f"+49 30 {number[:7]}",
            f"+1-415-555-{number[:4]}",
            f"(415) 555-{number[:4]}",
            f"+44 20 7946 {number[:4]}",
            f"0171 {number[:8]}",
            f"+33 6 {number[:2]} {number[2:4]} {number[4:6]} {number[6:8]}",
        ]
    )


def ip(draws: random.Random) -> str:
    four = ".".join(str(draws.randint(1, 254)) for _ in range(4))
    six = ":".join(f"{draws.randint(0x1000, 0xFFFF):x}" for _ in range(8))
    return draws.choice([four, six, f"fe80::{draws.randint(1, 0xFFFF):x}:{draws.randint(1, 0xFFFF):x}"])


def secret(draws: random.Random) -> str:
    def some(count: int, letters: str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") -> str:
        return "".join(draws.choices(letters, k=count - 1)) + "7"

    capitals = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    return draws.choice(
        [
            f"sk-proj-{some(40)}",
            f"ghp_{some(36)}",
            f"AKIA{some(16, capitals)}",
            f"eyJhbGciOiJIUzI1NiJ9.{some(40)}.{some(43)}",
            f"xoxb-{some(12, '0123456789')}-{some(24)}",
            f"AIza{some(35)}",
            some(40),
        ]
    )


def national_id(draws: random.Random) -> str:
    return draws.choice(NATIONAL)(draws)


def ssn(draws: random.Random) -> str:
    return f"{draws.randint(1, 665):03d}-{draws.randint(1, 99):02d}-{draws.randint(1, 9999):04d}"


def nino(draws: random.Random) -> str:
    return f"AB {draws.randint(10, 99)} {draws.randint(10, 99)} {draws.randint(10, 99)} C"


def dni(draws: random.Random) -> str:
    number = draws.randint(10_000_000, 99_999_999)
    return f"{number}{'TRWAGMYFPDXBNJZSQVHLCKE'[number % 23]}"


def nir(draws: random.Random) -> str:
    body = f"{draws.choice('12')}{_digits(draws, 2)}{draws.randint(1, 12):02d}{_digits(draws, 8)}"
    whole = f"{body}{97 - int(body) % 97:02d}"
    parts = (whole[a:b] for a, b in pairwise((0, 1, 3, 5, 7, 10, 13, 15)))
    return draws.choice([whole, " ".join(parts)])


def pesel(draws: random.Random) -> str:
    born = f"{draws.randint(30, 99)}{draws.randint(1, 12):02d}{draws.randint(1, 28):02d}"
    return _passing(draws, is_pesel, lambda: born + _digits(draws, 5))


def tax_id(draws: random.Random) -> str:
    return _passing(draws, is_german_tax_id, lambda: draws.choice("123456789") + _digits(draws, 10))


def cpf(draws: random.Random) -> str:
    one, two, three = (_digits(draws, 3) for _ in range(3))
    return _passing(draws, is_cpf, lambda: f"{one}.{two}.{three}-{_digits(draws, 2)}")


def _digits(draws: random.Random, count: int) -> str:
    return "".join(draws.choices("0123456789", k=count))


def _passing(draws: random.Random, test: Callable[[str], bool], make: Callable[[], str]) -> str:
    while not test(made := make()):
        pass
    return made


NATIONAL = (ssn, nino, dni, nir, pesel, tax_id, cpf)


def password(draws: random.Random) -> str:
    letters = "abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ"
    return draws.choice(
        [
            f"{''.join(draws.choices(letters, k=8))}{_digits(draws, 3)}",
            "".join(draws.choices("abcdef0123456789", k=39)) + "7",
            f"hunter{_digits(draws, 2)}",
        ]
    )


URLS = (
    "postgres://app:{}@db.internal:5432/store",
    "redis://:{}@10.0.0.5:6379/0",
    "https://ann:{}@git.example.net/shop.git",
    "https://shop.example.net/callback?token={}&page=2",
    "https://shop.example.net/done#access_token={}&state=9",
    "see https://api.example.net/v1/maps?size=9&api_key={} for it",
    "https://api.example.net/v1/maps?key={}",
    "https://files.example.net/a/b?X-Amz-Signature={}&x=1",
)


MAKERS = {
    "email": email,
    "phone": phone,
    "card": card,
    "iban": iban,
    "ip": ip,
    "secret": secret,
    "national_id": national_id,
}

FRAMES = ("{}", "Please use {} for this.", "({})", "contact: {}, thanks", '{{"value": "{}"}}', "see\n{}\nbelow", "<{}>")

LABELLED: dict[str, tuple[Callable[[random.Random], str], tuple[str, ...], str]] = {
    **{kind: (maker, FRAMES, kind) for kind, maker in MAKERS.items()},
    "secret in a URL": (password, URLS, "secret"),
}
"""What is measured: how a value is made, what it stands in, and the kind that it must be found as."""

HARMLESS = (
    "Order 4929381 of 2026-11-24 10:30:00 for 1,234.56 EUR",
    "Invoice 2026-000123456789, part no. 12345678901234",
    "The card number 1234 5678 9012 3456 is an example that fails its check",
    "Version 1.2.3.4 and release 10.0.0.1 of the tool",
    "at 10:30:45 and 23:59:59.123, ratio 16:9, score 3:2",
    "commit 9fceb02d0ae598e95dc970b74767f19372d61af8 fixes it",
    "id 123e4567-e89b-12d3-a456-426614174000",
    "sha256 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "user@localhost and @handle and foo@bar",
    "the price is 1200-1500 dollars, call 911",
    "lat 52.520008, lon 13.404954",
    "x = 3.14159265358979323846",
    "std::vector<int> and a::b::c",
    "a-very-long-hyphenated-identifier-without-any-secret-in-it",
    "SOME_VERY_LONG_CONSTANT_NAME_IN_THE_SOURCE_CODE",
    "The token is expired, and the password is wrong.",
    "ISBN 978-3-16-148410-0",
    "tracking number 1Z9991110300000000",
    "Unix time 1780000000 and 1780000000123",
    "127.0.0.1 and 0.0.0.0",
    "DE00370400440532013000 is no account",
    "from 01/02/2026 to 2026/03/04",
    "Line 1\nLine 22\nLine 333 4444 55555",
)


def hard_negatives(draws: random.Random, rounds: int) -> Iterator[str]:
    """Numbers and strings that look like something and are not."""
    for _ in range(rounds):
        digits = "".join(draws.choices("0123456789", k=16))
        if luhn_digit(digits[:-1]) != digits[-1]:
            yield f"order {digits}"
        yield f"took {draws.random() * 1000:.6f} s"
        yield f"{draws.randint(2000, 2030)}-{draws.randint(1, 12):02d}-{draws.randint(1, 28):02d}T10:00:00Z"
        yield f"v{draws.randint(0, 9)}.{draws.randint(0, 99)}.{draws.randint(0, 99)}"
        yield f"{draws.getrandbits(160):040x}"
        yield f"pages {draws.randint(1, 500)}-{draws.randint(500, 900)}"
        yield f"customer no. {draws.randint(1_000_000, 99_999_999)}"
        yield f"{draws.randint(1, 12)}/{draws.randint(1, 28)}/{draws.randint(1990, 2030)} {draws.randint(0, 23)}:30"
        yield f"{draws.randint(1, 99)},{draws.randint(100, 999)},{draws.randint(100, 999)}.00 USD"
        yield f"https://shop.example.net/item?key=shoes&page={draws.randint(1, 99)}#sid=top"
        yield f"https://host{draws.randint(1, 99)}.example.net:8080/a@b"
        yield f"tax no. {draws.randint(1, 9)}{'0123456789'[: draws.randint(8, 9)]}"
        yield f"IBAN {draws.choice(IBANS)[:2]}{draws.randint(10, 99)}{''.join(draws.choices('0123456789', k=18))}x"
