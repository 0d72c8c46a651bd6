"""The check digits of cards, accounts and national ids. Pure."""

from collections import Counter


def digits_of(text: str) -> str:
    return "".join(character for character in text if "0" <= character <= "9")


def luhn_digit(digits: str) -> str:
    """The check digit that makes `digits` and it pass Luhn's test."""
    total = 0
    for position, character in enumerate(reversed(digits)):
        value = int(character) * (2 if position % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return str(-total % 10)


def iban_remainder(compact: str) -> int:
    """ISO 7064 mod 97-10 of an IBAN without spaces: 1 when its check digits are right."""
    return int("".join(str(int(character, 36)) for character in compact[4:] + compact[:4])) % 97


def is_dni(text: str) -> bool:
    """Spain: the letter is the number mod 23; X, Y, Z stand for 0, 1, 2."""
    body = text.replace("-", "")
    number = int(body[:-1].replace("X", "0").replace("Y", "1").replace("Z", "2"))
    return body[-1] == "TRWAGMYFPDXBNJZSQVHLCKE"[number % 23]


def is_nir(text: str) -> bool:
    """France: the key is 97 less the number mod 97; Corsica's 2A and 2B count as 19 and 18."""
    body = text.replace(" ", "").replace("2A", "19").replace("2B", "18")
    return int(body[13:]) == 97 - int(body[:13]) % 97


def is_pesel(text: str) -> bool:
    """Poland: weights 1, 3, 7, 9, and a birth date in the first six digits."""
    total = sum(int(digit) * weight for digit, weight in zip(text, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1), strict=True))
    return total % 10 == 0 and 1 <= int(text[2:4]) % 20 <= 12 and 1 <= int(text[4:6]) <= 31


def is_german_tax_id(text: str) -> bool:
    """Germany: ISO 7064 mod 11,10; no leading zero, and among the first ten digits one stands two or three times."""
    repeats = sorted(Counter(text[:10]).values())[-2:]
    if text[0] == "0" or repeats[1] not in (2, 3) or repeats[0] > 1:
        return False
    product = 10
    for character in text[:10]:
        total = (int(character) + product) % 10 or 10
        product = total * 2 % 11
    return (11 - product) % 10 == int(text[10])


def is_cpf(text: str) -> bool:
    """Brazil: two check digits, mod 11."""
    numbers = [int(character) for character in digits_of(text)]
    if len(set(numbers)) == 1:
        return False
    for length in (9, 10):
        total = sum(number * weight for number, weight in zip(numbers, range(length + 1, 1, -1), strict=False))
        if total * 10 % 11 % 10 != numbers[length]:
            return False
    return True
