"""Slices of requests, and the guess of a language."""

import pytest

from capture.errors import RefusedError
from students.slices import check_declared, language_of, length_of, slices_of


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Where is my card? I have not got it.", "en"),
        ("Wo ist meine Karte? Ich habe sie nicht und das ist dringend.", "de"),
        ("Je ne sais pas où est ma carte et je suis dans le train.", "fr"),
        ("No sé por qué el pago no está en mi cuenta, y lo necesito.", "es"),
        ("", None),
        ("12345 !!!", None),
    ],
)
def test_language(text: str, language: str | None) -> None:
    assert language_of(text) == language


def test_length() -> None:
    assert [length_of("x" * count) for count in (0, 399, 400, 1999, 2000)] == [
        "short",
        "short",
        "medium",
        "medium",
        "long",
    ]


def test_what_is_unknown_is_in_no_slice() -> None:
    request = {"messages": [{"role": "system", "content": "a" * 5000}, {"role": "user", "content": "1"}]}
    assert slices_of(request, None, None, None) == {"length": "short"}
    full = slices_of({"input": "the card is not in my letter"}, "f" * 16, "card", "key_1")
    assert full == {"prompt": "f" * 16, "label": "card", "language": "en", "length": "short", "key": "key_1"}


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("/metadata/tier", "gold"),
        ("/metadata/a~1b", "1"),
        ("/stream", "true"),
        ("/metadata/none", None),
        ("/metadata", None),
        ("/messages/0", None),
        ("/metadata/long", "x" * 60),
    ],
)
def test_a_declared_slice_is_what_its_pointer_finds(pointer: str, value: str | None) -> None:
    request = {
        "messages": [{"role": "user", "content": "1"}],
        "stream": True,
        "metadata": {"tier": "gold", "a/b": 1, "long": "x" * 100},
    }
    assert slices_of(request, None, None, None, {"tier": pointer}).get("tier") == value


@pytest.mark.parametrize(
    ("declared", "said"),
    [({"language": "/metadata/language"}, "language"), ({"a b": "/x"}, "a b"), ({"tier": "metadata.tier"}, "pointer")],
)
def test_a_declared_slice_that_cannot_be_cut_is_refused(declared: dict[str, str], said: str) -> None:
    with pytest.raises(RefusedError, match=said):
        check_declared(declared)
