"""The stand-in teacher's reading: right as often as said, by the text alone, and not always of one mind."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from examples.teacher_reading import Reading, read
from examples.tickets import CATEGORIES, PRIORITIES, Ticket, tickets


@pytest.fixture(scope="module")
def sample() -> list[Ticket]:
    return list(tickets(seed=2026, count=2000))


def _readings(sample: list[Ticket], temperature: float, seed: int) -> list[Reading]:
    draw = random.Random(seed)
    return [read(ticket.text, temperature, draw) for ticket in sample]


def _share(hits: list[bool]) -> float:
    return sum(hits) / len(hits)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_category_is_right_about_92_percent(sample: list[Ticket], temperature: float) -> None:
    readings = zip(_readings(sample, temperature, 1), sample, strict=True)
    assert 0.90 <= _share([reading.category == ticket.truth.category for reading, ticket in readings]) <= 0.94


def test_ambiguous_tickets_are_the_hard_ones(sample: list[Ticket]) -> None:
    right = [
        (ticket.ambiguous, reading.category == ticket.truth.category)
        for reading, ticket in zip(_readings(sample, 0.0, 1), sample, strict=True)
    ]
    assert _share([hit for ambiguous, hit in right if ambiguous]) < 0.8
    assert _share([hit for ambiguous, hit in right if not ambiguous]) > 0.94


def test_priority_is_right_more_often_than_category(sample: list[Ticket]) -> None:
    readings = zip(_readings(sample, 1.0, 1), sample, strict=True)
    assert 0.95 <= _share([reading.priority == ticket.truth.priority for reading, ticket in readings]) <= 0.99


def test_asked_twice_it_agrees_with_itself_mostly(sample: list[Ticket]) -> None:
    asked = zip(_readings(sample, 1.0, 1), _readings(sample, 1.0, 2), strict=True)
    assert 0.92 <= _share([first.category == second.category for first, second in asked]) <= 0.975


def test_cold_it_always_says_the_same(sample: list[Ticket]) -> None:
    assert _readings(sample[:200], 0.0, 1) == _readings(sample[:200], 0.0, 2)


def test_labels_are_the_prompts_and_summaries_are_the_tickets_words(sample: list[Ticket]) -> None:
    for ticket, reading in zip(sample, _readings(sample, 1.0, 1), strict=True):
        assert reading.category in CATEGORIES
        assert reading.priority in PRIORITIES
        assert 1 <= len(reading.summary.split()) <= 12
        assert reading.summary in " ".join(ticket.text.split())


def test_an_empty_text_is_read_without_an_error() -> None:
    assert read("", 0.0, random.Random(1)).summary == ""


def test_the_teacher_never_loads_the_tickets() -> None:
    loaded = "import sys, examples.teacher; print([name for name in sys.modules if name.startswith('examples')])"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", loaded], cwd=root, capture_output=True, text=True, check=True)
    assert "examples.teacher_reading" in done.stdout
    for secret in ("examples.tickets", "examples.phrasebook", "examples.english", "examples.german"):
        assert secret not in done.stdout
