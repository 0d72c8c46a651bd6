"""Erasing by the name that an app sends."""

from pathlib import Path

import pytest

from capture.errors import NotFoundError, RefusedError
from capture.redact import Redactor, load_secret
from capture.settings import RedactionSettings, Settings
from console import verbs
from console.access import Actor, Desk, Role
from tests.factories.store import add_exchange, new_store

MAIL = "someone@example.org"


def desk_at(folder: Path, role: Role = Role.OPERATOR) -> Desk:
    return Desk(new_store(folder), Settings(data=folder), Actor("tester", role))


def test_a_user_is_erased_by_the_name_that_the_app_sent(tmp_path: Path) -> None:
    desk = desk_at(tmp_path)
    stored = Redactor(RedactionSettings(), load_secret(tmp_path)).pseudonym(MAIL)
    assert stored != MAIL
    for user in (stored, stored, "somebody-else"):
        add_exchange(desk.store, user=user)
    assert verbs.erase(desk, user=MAIL).erased == 2
    with pytest.raises(NotFoundError):
        verbs.erase(desk, user=MAIL)


def test_erasing_is_for_operators(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="operator"):
        verbs.erase(desk_at(tmp_path, Role.REVIEWER), user=MAIL)
