"""The tickets: repeatable, varied, short, and as mixed as the demo needs them."""

import re
from collections import Counter
from itertools import islice, pairwise
from statistics import median

import jsonschema_rs
import pytest
from rensa import RMinHash, RMinHashLSH

from examples.tickets import CATEGORIES, PRIORITIES, RESPONSE_FORMAT, SYSTEM_PROMPT, Ticket, messages, tickets


@pytest.fixture(scope="module")
def thousand() -> list[Ticket]:
    return list(tickets(seed=11, count=1000))


def _kept_by_near_duplicate_filter(texts: list[str], alike: float) -> int:
    """How many texts have no earlier one whose word shingles they share (MinHash, Jaccard `alike`)."""
    index, kept = RMinHashLSH(threshold=alike, num_perm=128, num_bands=16), 0
    hashes: list[RMinHash] = []
    for number, text in enumerate(texts):
        words = re.findall(r"\w+", text.lower())
        sketch = RMinHash(num_perm=128, seed=1)
        sketch.update([" ".join(pair) for pair in pairwise(words)])
        hashes.append(sketch)
        if not any(hashes[other].jaccard(sketch) >= alike for other in index.query(sketch)):
            kept += 1
            index.insert(number, sketch)
    return kept


def test_same_seed_gives_same_tickets_from_any_start() -> None:
    stream = list(tickets(seed=3, count=50))
    assert stream == list(tickets(seed=3, count=50))
    assert stream[20:] == list(tickets(seed=3, count=30, start=20))
    assert stream[0].text != next(tickets(seed=4, count=1)).text


def test_near_duplicate_filter_keeps_nearly_all(thousand: list[Ticket]) -> None:
    assert _kept_by_near_duplicate_filter([ticket.text for ticket in thousand], alike=0.8) >= 980


def test_near_duplicate_filter_itself_drops_copies(thousand: list[Ticket]) -> None:
    texts = [ticket.text for ticket in islice(thousand, 100)]
    assert _kept_by_near_duplicate_filter(texts + texts, alike=0.8) <= 100


def test_lengths_are_short(thousand: list[Ticket]) -> None:
    lengths = [len(ticket.text.split()) for ticket in thousand]
    assert 22 <= median(lengths) <= 38
    assert max(lengths) <= 75
    assert min(lengths) >= 3


def test_truth_and_languages_are_mixed(thousand: list[Ticket]) -> None:
    categories = Counter(ticket.truth.category for ticket in thousand)
    assert len(CATEGORIES) >= 8
    assert set(categories) == set(CATEGORIES)
    assert min(categories.values()) >= 80
    assert set(Counter(ticket.truth.priority for ticket in thousand)) == set(PRIORITIES)
    assert 200 <= sum(ticket.language == "de" for ticket in thousand) <= 350
    assert 80 <= sum(ticket.ambiguous for ticket in thousand) <= 160


def test_a_customer_writes_one_to_three_times_in_one_language(thousand: list[Ticket]) -> None:
    visits = Counter(ticket.session for ticket in thousand)
    assert set(visits.values()) == {1, 2, 3}
    assert len({(ticket.session, ticket.language) for ticket in thousand}) == len(visits)


def test_every_phrase_is_filled(thousand: list[Ticket]) -> None:
    assert not [ticket.text for ticket in thousand if re.search(r"[\[\]{}|]", ticket.text)]


def test_messages_carry_the_prompt_and_the_text_alone(thousand: list[Ticket]) -> None:
    system, user = messages(thousand[0])
    assert system == {"role": "system", "content": SYSTEM_PROMPT}
    assert user == {"role": "user", "content": thousand[0].text}
    assert all(word in SYSTEM_PROMPT for word in (*CATEGORIES, *PRIORITIES))


def test_schema_takes_an_answer_and_refuses_an_unknown_category() -> None:
    schema = jsonschema_rs.validator_for(RESPONSE_FORMAT["json_schema"]["schema"])
    answer = {"category": "refund", "priority": "low", "summary": "wants money back"}
    assert schema.is_valid(answer)
    assert not schema.is_valid({**answer, "category": "weather"})
