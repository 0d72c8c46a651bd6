import time
from datetime import UTC

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from console.views import difference, words


@given(st.text(max_size=60))
@example("    code")
@example("1. one")
@example("a\n===")
def test_plain_is_one_paragraph_of_text(text: str) -> None:
    """Read as Markdown it gives one run of text: no emphasis, link, image, code, HTML, heading, list or table."""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(words.plain(text))
    kinds = {child.type for token in tokens if token.type == "inline" for child in token.children or ()}
    assert {token.type for token in tokens} <= {"paragraph_open", "inline", "paragraph_close"}
    assert kinds <= {"text", "text_special"}


@pytest.mark.parametrize("text", ["http://a.example/x", "www.a.example", "someone@a.example"])
def test_plain_leaves_no_address_that_markdown_would_link(text: str) -> None:
    assert text not in words.plain(text).replace("\\", "")


@pytest.mark.parametrize(
    ("usd", "text"),
    [
        (None, "–"),
        (0.0, "$0"),
        (0.00001, "<$0.0001"),
        (0.0021, "$0.0021"),
        (1.5, "$1.50"),
        (12345.6, "$12,346"),
        (-2.0, "−$2.00"),
    ],
)
def test_money(usd: float | None, text: str) -> None:
    assert words.money(usd) == text


@pytest.mark.parametrize(("number", "text"), [(0, "0"), (9_999, "9,999"), (10_000, "10,000+"), (10_001, "10,000+")])
def test_capped(number: int, text: str) -> None:
    assert words.capped(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (61, "1 min 1 s"), (3600, "1 h"), (90_061, "1 d 1 h"), (None, "–")]
)
def test_span(seconds: float | None, text: str) -> None:
    assert words.span(seconds) == text


def test_times_are_in_the_readers_zone() -> None:
    assert words.when(1_780_000_000, words.zone_of("Europe/Berlin")).endswith("CEST")
    assert words.when(1_780_000_000, words.zone_of("Asia/Tokyo")).endswith("JST")
    assert words.zone_of("no/such") is UTC
    assert words.zone_of(None) is UTC


def test_short_keeps_what_differs() -> None:
    assert words.short("abc") == "abc"
    assert words.short("0123456789abcdef") == "…89abcdef"


def test_difference_marks_only_what_differs() -> None:
    left, right = difference.words("the red car", "the blue car")
    assert left == "the :green-background[red] car"
    assert right == "the :orange-background[blue] car"


def test_difference_escapes_what_it_marks() -> None:
    left, _ = difference.words("![x](y)", "z")
    assert "![" not in left


def test_difference_keeps_lines_apart_and_none_of_them_becomes_a_list() -> None:
    left, right = difference.words("one\n\n- two\nred end", "one\n\n- two\nblue\nsea end")
    assert [line.strip("\u2060 ") for line in left.split("\n")] == ["one", "", "\\- two", ":green-background[red] end"]
    assert right.count("\n") == 4
    assert all(line.startswith("\u2060") for line in right.split("\n")[1:])
    assert ":orange-background[blue]" in right
    assert ":orange-background[sea]" in right


@pytest.mark.parametrize("text", ["{}", '"word{}": ', "the {} and ", "a b ", "\n"])
def test_difference_of_long_texts_is_told_at_once(text: str) -> None:
    """Whatever they repeat: all else about them differs."""
    ours = "".join(text.format(f"x{number}") for number in range(900))
    theirs = "".join(text.format(f"y{number}") for number in range(900, 0, -1))
    began = time.process_time()
    difference.words(ours, theirs)
    difference.words(ours, theirs[:900])
    assert time.process_time() - began < 1.5
