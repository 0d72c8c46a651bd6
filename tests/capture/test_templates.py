"""Templates: as many groups as there were templates, whatever they were filled with and in whatever order they came."""

import random

import pytest

from capture.templates import Prompt, belongs, groups
from tests.factories.prompts import FAMILIES, fillings


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_as_many_groups_as_templates(family: str, seed: int) -> None:
    made = fillings(family, 500, seed)
    found = groups([Prompt(parts) for _, parts in made])
    assert len(found) == len(FAMILIES[family]) == 5
    for group in found:
        assert len({made[place][0] for place in group.members}) == 1
    assert sum(len(group.members) for group in found) >= 0.97 * len(made)


@pytest.mark.parametrize("family", sorted(FAMILIES.keys() - {"translations"}))  # "Translate from … to …" is too short
def test_templates_that_are_rare_beside_a_common_one_are_found_too(family: str) -> None:
    shares = [0.8, 0.05, 0.05, 0.05, 0.05]
    made = fillings(family, 500, 4, shares)
    assert len(groups([Prompt(parts) for _, parts in made])) == 5


def test_free_text_has_no_template() -> None:
    words = "the a one cat dog house runs sees of and to in with small large old new why how red"
    chance = random.Random(5)
    texts = [" ".join(chance.choices(words.split(), k=40)) for _ in range(300)]
    assert groups([Prompt([("user", text)]) for text in texts]) == []
    assert groups([]) == []


def test_one_template_is_one_group() -> None:
    made = [parts for _, parts in fillings("systems", 200, 6, [1, 0, 0, 0, 0])]
    [group] = groups([Prompt(parts) for parts in made])
    assert len(group.members) == 200
    assert belongs(Prompt(made[0]).features, group.core)


def test_what_is_fixed_is_shown_and_fillings_are_not() -> None:
    made = [parts for _, parts in fillings("translations", 100, 7, [1, 0, 0, 0, 0])]
    [group] = groups([Prompt(parts) for parts in made])
    shown = Prompt(made[0]).template(group.core)
    assert shown.startswith("Translate from … to …")
    assert "…" in shown
