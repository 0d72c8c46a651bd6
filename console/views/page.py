"""What every page stands on: its desk, cached answers, actions that end in one clear line, and parts that refresh."""

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta, tzinfo
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import streamlit as st

from capture.db import Store
from capture.errors import StillhouseError, StoreAwayError
from capture.settings import Settings
from capture.tasks import load_tasks
from console.access import Desk, Role
from console.views.words import plain, zone_of

P = ParamSpec("P")
T = TypeVar("T")

FRESH_S = 2
"""How old an answer of the store may be on a page."""

DESK = "desk"
ADDRESS = "address"
OF_TASK, EVERY_TASK = "of-task", "Every task"


def desk() -> Desk:
    """The desk that console/app.py has put into this session."""
    return cast(Desk, st.session_state[DESK])


def settings() -> Settings:
    return desk().settings


def below_operator() -> bool:
    """What only operators may do is shown, and cannot be pressed by others; the verb asks again."""
    return desk().actor.role < Role.OPERATOR


def below_reviewer() -> bool:
    return desk().actor.role < Role.REVIEWER


def zone() -> tzinfo:
    """The reader's time zone, as the browser tells it."""
    return zone_of(st.context.timezone)


@st.cache_data(ttl=FRESH_S, max_entries=1000, show_spinner=False)
def _answer(key: tuple[str, ...], _read: Callable[..., T], _store: Store, _args: tuple[Any, ...]) -> T:  # noqa: ARG001
    return _read(_store, *_args)


def ask(read: Callable[Concatenate[Store, P], T], *args: P.args, **nothing: P.kwargs) -> T:
    """What `read(store, *args)` says, at most FRESH_S seconds old. Arguments are told apart by their repr."""
    assert not nothing, "reads are asked by position"
    store = desk().store
    key = (str(store.engine.url), read.__module__, read.__qualname__, repr(args))
    return _answer(key, read, store, args)


def forget() -> None:
    """After a change: the next look is at the store itself."""
    _answer.clear()


def say(error: StillhouseError) -> None:
    """One line, letter for letter; what came with a request must not act as Markdown."""
    icon = ":material/cloud_off:" if isinstance(error, StoreAwayError) else ":material/error:"
    st.error(plain(error), icon=icon)


@contextmanager
def acting(done: str) -> Iterator[None]:
    """Around a verb: says `done` and shows the page anew, or says in one line why it was refused."""
    try:
        yield
    except StillhouseError as error:
        say(error)
        return
    forget()
    st.toast(plain(done), icon=":material/check:")
    st.rerun()


@contextmanager
def guarded() -> Iterator[None]:
    """Around a page or a part of it: an error of ours is one line in its place, never a traceback."""
    try:
        yield
    except StillhouseError as error:
        say(error)


def live(every_s: float) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """A part of a page that looks again by itself."""

    def wrap(part: Callable[P, None]) -> Callable[P, None]:
        @functools.wraps(part)
        def calm(*args: P.args, **kwargs: P.kwargs) -> None:
            with guarded():
                part(*args, **kwargs)

        return cast(Callable[P, None], st.fragment(calm, run_every=every_s))

    return wrap


def empty(title: str, text: str, icon: str) -> None:
    """The designed state of a page, or a part of it, that has nothing to show yet. Both texts are our own."""
    with st.container(border=True):
        st.markdown(f"**:material/{icon}: {title}**")
        st.markdown(text)


def ink() -> str:
    """The colour of text, for charts."""
    return "#f2f2f0" if st.context.theme.type == "dark" else "#222222"


def task_names() -> list[str]:
    return sorted(ask(load_tasks))


def of_task() -> str | None:
    """The task that a list is narrowed to: the address's, or what the reader chose since; None: every task."""
    names, asked = task_names(), query("task")
    if len(names) < 2:
        return asked
    if asked in names and st.session_state.get(f"{OF_TASK}-asked") != asked:
        st.session_state[OF_TASK] = asked
    st.session_state[f"{OF_TASK}-asked"] = asked
    chosen = st.selectbox("Task", [EVERY_TASK, *names], key=OF_TASK, width=220, persist_state="session")
    return None if chosen == EVERY_TASK else chosen


def back(view: str, label: str) -> None:
    """The way from one thing to all of its kind."""
    st.page_link(f"views/{view}.py", label=label, icon=":material/arrow_back:")


def midnight(day: date | None) -> float | None:
    """The start of a day in the reader's zone, in Unix seconds."""
    return None if day is None else datetime.combine(day, time(), zone()).timestamp()


def day_end(day: date | None) -> float | None:
    """The end of a day in the reader's zone, in Unix seconds: a range of days has its last one in it.

    None for the last day that can be written, as an address may have it: nothing comes after it.
    """
    return None if day is None or day == date.max else midnight(day + timedelta(days=1))


def now() -> float:
    """Unix seconds, in steps of FRESH_S, so that an answer that depends on it can be kept that long."""
    return desk().clock() // FRESH_S * FRESH_S


def keep_address(path: str) -> None:
    """Call once a run: Streamlit leaves the browser's address as it was when a link leads from a page to itself."""
    parts = st.query_params.to_dict()
    was = st.session_state.get(ADDRESS)
    st.session_state[ADDRESS] = (path, parts)
    if was is not None and was[0] == path and was[1] != parts:
        st.query_params.from_dict(parts)


def turn_to(name: str, value: str) -> None:
    """Sets a part of this page's address; takes effect with the next run."""
    readdress({**st.query_params.to_dict(), name: value})


def readdress(parts: Mapping[str, str]) -> None:
    """Makes these all the parts of this page's address."""
    st.query_params.from_dict(parts)
    path, _ = st.session_state[ADDRESS]
    st.session_state[ADDRESS] = (path, dict(parts))


def query(name: str) -> str | None:
    """A part of the page's address, as `?exchange=ID`; None when it is absent or empty."""
    return st.query_params.get(name) or None
