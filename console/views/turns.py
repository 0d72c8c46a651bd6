"""A task's turns of the loop, as the page Tasks shows them: begin one, let a waiting one go on, stop one, read all."""

from typing import Any

import streamlit as st

from capture.settings import LoopSettings
from console import looping
from console.views import page
from console.views.words import NONE, plain, when
from students import turns

COLOURS = {"running": "blue", "waiting": "orange", "rolled_out": "green", "ended": "gray", "failed": "red"}
SHOWN = 10
MADE = (
    ("dataset", "datasets", "dataset"),
    ("fine_tune", "students", "model_training"),
    ("student", "students", "school"),
    ("evaluation", "students", "balance"),
    ("rollout", "rollouts", "stairs"),
)
"""What a turn makes, named as in an address; the page that opens it; its icon."""


def shown(task: str, loop: LoopSettings) -> None:
    st.markdown("## Turns of the loop")
    st.caption("A turn builds a dataset, trains on it, evaluates the student and starts its rollout. " + _begins(loop))
    listed(task)


@page.live(5)
def listed(task: str) -> None:
    found = page.ask(turns.list_turns, task, SHOWN)
    if not any(turn.moving for turn in found):
        off = page.below_operator()
        if st.button("Begin a turn", icon=":material/cached:", key="begin-turn", disabled=off):
            with page.acting("The turn has begun; the worker takes it from here"):
                looping.begin_turn(page.desk(), task)
    for turn in found:
        with st.container(border=True, key=f"turn-{turn.id}"):
            _one(turn)
            if turn.moving:
                _steer(turn)


def _begins(loop: LoopSettings) -> str:
    begins = f"One begins after {loop.after_rows:,} new accepted rows" if loop.after_rows else "None begins by itself"
    return begins + (
        f", and waits for a person before: {', '.join(loop.wait_for_person)}." if loop.wait_for_person else "."
    )


def _steer(turn: turns.Turn) -> None:
    off = page.below_operator()
    with st.container(horizontal=True, vertical_alignment="center"):
        if turn.state == "waiting":
            label, icon = f"Let it {turn.step}", ":material/play_arrow:"
            if st.button(label, type="primary", icon=icon, key="approve-turn", disabled=off):
                with page.acting("It goes on"):
                    looping.approve_turn(page.desk(), turn.id)
        with st.popover("Stop it", icon=":material/stop:", key="stop-turn"):
            st.markdown("A fine-tune that is under way ends with it; a rollout that it started goes on.")
            reason = st.text_input("Reason (may be empty)", key="stop-turn-reason", max_chars=300)
            if st.button("Yes, stop it", type="primary", key="yes-stop-turn", disabled=off):
                with page.acting("The turn has ended"):
                    looping.stop_turn(page.desk(), turn.id, reason)


def _one(turn: turns.Turn) -> None:
    colour: Any = COLOURS.get(turn.state, "gray")
    with st.container(horizontal=True, vertical_alignment="center"):
        st.badge(turn.state.replace("_", " "), color=colour)
        if turn.moving:
            st.markdown(f"before **{turn.step}**" if turn.state == "waiting" else f"at **{turn.step}**")
        st.markdown(f"{turn.rows:,} new rows")
        st.caption(f"by {plain(turn.who)}, {when(turn.created_at, page.zone())}")
    st.markdown(plain(turn.record[-1]["text"]) if turn.record else NONE)
    with st.container(horizontal=True):
        for part, view, icon in MADE:
            identity = getattr(turn, f"{part}_id")
            if identity:
                label = part.replace("_", "-")
                st.page_link(f"views/{view}.py", label=label, icon=f":material/{icon}:", query_params={part: identity})
    with st.expander(f"Its record ({len(turn.record)})", key=f"record-{turn.id}"):
        for line in turn.record:
            st.caption(f"{when(line['at'], page.zone())} · {plain(line['who'])}: {plain(line['text'])}")
