"""The console's login against an OpenID Connect provider on a real socket: who gets in, and what each may do."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.console_process import CHROMIUM, Console, browser, console, settle
from tests.fakes.oidc_provider import CLIENT, SECRET, Provider, provider

pytestmark = [pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Debian's chromium"), pytest.mark.timeout(600)]

PEOPLE = '{ "mara@example.com" = "operator", "rev@example.com" = "reviewer", "*@example.com" = "viewer" }'


@pytest.fixture(scope="module")
def someone() -> Iterator[Provider]:
    with provider() as found:
        yield found


def behind(someone: Provider) -> tuple[Callable[[int], str], dict[str, str]]:
    """A console's settings behind this provider, given its port, and its environment."""

    def config(port: int) -> str:
        url = f"http://127.0.0.1:{port}"
        lines = [f'issuer = "{someone.url}"', f'client_id = "{CLIENT}"', 'client_secret_env = "DOOR_SECRET"']
        return "\n".join(["", "[console.login]", *lines, f'public_url = "{url}"', f"people = {PEOPLE}", ""])

    return config, {"DOOR_SECRET": SECRET}


@pytest.fixture(scope="module")
def door(someone: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    config, variables = behind(someone)
    with console(tmp_path_factory.mktemp("door"), filled=True, config=config, **variables) as found:
        yield found


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    with browser() as found:
        yield found


def entered(window: Browser, door: Console, someone: Provider, **claims: object) -> Page:
    """A fresh browser that pressed "Log in" as the person whom the provider names."""
    someone.claims = {"email_verified": True, **claims}
    page = window.new_context().new_page()
    page.goto(door.url + "/rollouts")
    settle(page)
    assert page.get_by_role("heading", name="Rollouts").count() == 0
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("button", name="Log out").first.wait_for()
    settle(page)
    return page


@pytest.mark.parametrize(
    ("email", "role"),
    [("Mara@Example.com", "operator"), ("rev@example.com", "reviewer"), ("else@example.com", "viewer")],
)
def test_people_get_the_role_of_their_address(
    email: str, role: str, window: Browser, door: Console, someone: Provider
) -> None:
    page = entered(window, door, someone, email=email)
    said = page.get_by_test_id("stSidebar").inner_text().replace("\u2060", "")
    assert f"{email.lower()} · {role}" in said
    assert page.get_by_role("heading", name="Tasks at a glance").count() == 1


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"email": "mallory@elsewhere.example"}, "is not among"),
        ({"email": "mara@example.com.elsewhere.example"}, "is not among"),
        ({"email": "mara@example.com", "email_verified": False}, "verified"),
        ({"email": "mara@example.com", "email_verified": None}, "verified"),
        ({"email": None}, "no mail address"),
    ],
)
def test_strangers_see_one_line_and_nothing_else(
    claims: dict[str, object], said: str, window: Browser, door: Console, someone: Provider
) -> None:
    page = entered(window, door, someone, **claims)
    assert said in page.get_by_test_id("stAlert").inner_text()
    assert page.get_by_text("triage").count() == 0
    page.goto(door.url + door.deep()["exchange"])
    settle(page)
    assert page.get_by_text("triage").count() == 0


def test_logging_out_shuts_the_door(window: Browser, door: Console, someone: Provider) -> None:
    page = entered(window, door, someone, email="mara@example.com")
    page.get_by_role("button", name="Log out").click()
    page.get_by_role("button", name="Log in").wait_for()
    page.goto(door.url + "/operations")
    settle(page)
    assert page.get_by_role("button", name="Log in").count() == 1
    assert page.get_by_role("heading", name="Operations").count() == 0


def test_a_forged_cookie_is_nobody(window: Browser, door: Console) -> None:
    context = window.new_context()
    context.add_cookies([{"name": "_streamlit_user", "value": '{"email":"mara@example.com"}', "url": door.url}])
    page = context.new_page()
    page.goto(door.url)
    settle(page)
    assert page.get_by_role("button", name="Log in").count() == 1


def test_the_clients_secret_lies_in_a_private_file(door: Console, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = next(tmp_path_factory.getbasetemp().glob("door*"))
    file: Path = folder / "secrets" / "console-login.toml"
    assert file.stat().st_mode & 0o077 == 0
    assert SECRET in file.read_text(encoding="utf-8")
    assert SECRET not in (folder / "console.log").read_text(encoding="utf-8", errors="replace")
