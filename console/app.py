"""The console's entry, run by Streamlit: wires settings, store and reader to a desk, and shows the page asked for."""

import getpass
import os
from dataclasses import replace
from pathlib import Path

import streamlit as st

from capture import settings as configuration
from capture.db import open_store
from capture.errors import StillhouseError
from capture.migrations import upgrade
from console.access import Actor, Desk, Role
from console.views import door, page

# Drawn here: a named icon or an emoji as the tab's picture would be fetched from a stranger's server.
ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><g fill="none" stroke="#2f9e6e" stroke-width="3">'
    '<path d="M11 4v8l-6 12a3 3 0 0 0 3 4h12a3 3 0 0 0 3-4l-6-12V4M9 4h10"/><path d="M17 9h10v14"/></g></svg>'
)

SIDEBAR_PX = 220

Environment = tuple[tuple[str, str], ...]

PAGES = (
    ("home", "Home", "home", ""),
    ("traffic", "Traffic", "forum", "Exchanges: find, open, review."),
    ("tasks", "Tasks", "label", "Tasks, their settings and prompt versions."),
    ("datasets", "Datasets", "dataset", "Build, read and export datasets."),
    ("students", "Students", "school", "Fine-tunes, students and evaluations."),
    ("rollouts", "Rollouts", "stairs", "Move traffic to a student on proof."),
    ("operations", "Operations", "monitor_heart", "Counters, processes, keys, audit, settings."),
)


@st.cache_resource(show_spinner="Opening the store …", max_entries=8)
def _desk(environment: Environment, folder: Path) -> Desk:
    """One store a process, whoever looks; the tables are brought up to date as every process does."""
    environ = dict(environment)
    settings = configuration.load(configuration.find_config(None, environ, folder), environ)
    store = open_store(settings.store_url)
    upgrade(store)
    return Desk(store, settings, Actor(_reader(), Role[settings.console.role.upper()]))


def _reader() -> str:
    """Without a login: whoever reaches a loopback console, who owns the files that it works on."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "operator"


def _environment() -> Environment:
    ours = ("STILLHOUSE_", "DATABASE_URL")
    return tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith(ours)))


def main() -> None:
    st.set_page_config(page_title="Stillhouse", page_icon=ICON, layout="wide", initial_sidebar_state=SIDEBAR_PX)
    try:
        desk = _desk(_environment(), Path.cwd())
    except StillhouseError as error:
        page.say(error)
        st.stop()
    login = desk.settings.console.login
    st.session_state[page.DESK] = desk if login is None else replace(desk, actor=door.person(login))
    pages = [
        st.Page(
            Path(__file__).parent / "views" / f"{name}.py",
            title=title,
            icon=f":material/{icon}:",
            url_path=name,
            default=name == "home",
            help=text or None,
        )
        for name, title, icon, text in PAGES
    ]
    chosen = st.navigation({"Stillhouse": pages})
    door.badge(page.desk())
    page.keep_address(chosen.url_path)
    with page.guarded():
        chosen.run()


if __name__ == "__main__":
    main()
