"""Home: each task a row, and what waits for a person; on an empty install, how to connect an app."""

import streamlit as st

from console.reads import home as reads
from console.views import page
from console.views.words import NONE, capped, count, money, percent, plain, span
from students.sentences import points, stage_name

ICONS = {"traffic": "forum", "tasks": "label", "datasets": "dataset", "students": "school", "rollouts": "stairs"}
WAITS = ":orange-badge[waits for you]"
SAVED = (
    "As if the teacher had answered everything at its mean price, less what was spent on all arms, background calls "
    "and training; unknown where a price is."
)
NEXT = ":gray-badge[next]"
STEPS = {
    "traffic": "Look at what comes in, and say of some of it whether it is right.",
    "datasets": "Freeze the good part of it, with a holdout that no student learns from.",
    "students": "Train a small model on it, and evaluate it against the teacher.",
    "rollouts": "Move the traffic over, a step at a time, as far as the proof goes.",
}


def show() -> None:
    empty = not page.ask(reads.task_rows, page.now())
    st.title("Start here" if empty else "Tasks at a glance")
    rows()


@page.live(10)
def rows() -> None:
    found = page.ask(reads.task_rows, page.now())
    loose = page.ask(reads.unmatched)
    if not found:
        _connect(loose)
        return
    for row in sorted(found, key=lambda row: -row.recent.count):
        _task(row)
    if loose:
        _pointer(
            f"{capped(loose)} exchanges belong to no task; the page Tasks groups them and proposes rules.", "tasks"
        )


def _task(row: reads.TaskRow) -> None:
    with st.container(border=True, key=f"task-{row.name}"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.header(plain(row.name), anchor=False, width="content")
            st.caption(f"teacher {plain(row.teacher)}")
            st.space("stretch")
            query = {"task": row.name}
            st.page_link("views/traffic.py", label="Traffic", icon=":material/forum:", query_params=query)
            if row.rollout is not None:
                query = {"rollout": row.rollout.id}
                st.page_link("views/rollouts.py", label="Rollout", icon=":material/stairs:", query_params=query)
        _figures(row)
        for waiting in row.waiting:
            _pointer(f"{WAITS if waiting.urgent else NEXT} {waiting.what}", waiting.page, task=row.name)


def _pointer(text: str, view: str, **query: str) -> None:
    """A sentence of ours, and the way to where it is about: a link alone would be cut on a phone."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(text, width="content")
        icon = f":material/{ICONS[view]}:"
        st.page_link(f"views/{view}.py", label=f"To {view}", icon=icon, query_params=query or None)


def _figures(row: reads.TaskRow) -> None:
    recent, reach = row.recent, _reach(row.recent)
    with st.container(horizontal=True, gap="small"):
        _figure("Stored", count(row.stored), f"{recent.count:,} answers in the {reach}", _over(recent))
        unpriced = f"; {recent.unpriced:,} of unknown price" if recent.unpriced else ""
        below = f"all arms{unpriced}" if recent.count else "nothing came in"
        _figure(f"Spend, {reach}", money(recent.cost_usd), below, _over(recent))
        _figure("Student share", percent(recent.share), _stage(row), _over(recent))
        quality, bounds = _quality(row)
        _figure("Against teacher", quality, bounds, "Student minus teacher in percentage points, with its bounds.")
        saved = "less all that was spent" if recent.student else "no student has answered yet"
        _figure(f"Saved, {reach}", money(recent.saved_usd), saved, SAVED)


def _reach(recent: reads.Recent) -> str:
    """Which time the figures are about."""
    return "last day" if recent.whole else f"last {span(page.now() - recent.since)}"


def _figure(label: str, value: str, below: str, text: str) -> None:
    with st.container(width=150, gap=None):
        st.metric(label, value, help=text)
        st.caption(plain(below))


def _over(recent: reads.Recent) -> str:
    if recent.whole:
        return "Over all that was answered in the last day, what was sampled out counted in."
    return f"Over the newest {reads.RECENT:,} that were kept, what was sampled out counted in."


def _stage(row: reads.TaskRow) -> str:
    if row.rollout is None:
        return "no rollout yet"
    state = row.rollout.state.replace("_", " ")
    stage = stage_name(row.rollout.share)
    where = {"running": f"rollout at {stage}", "paused": f"rollout paused at {stage}", "full": f"at {stage}"}
    fallbacks = f"; {row.recent.fallback:,} fell back to the teacher" if row.recent.fallback else ""
    return where.get(row.rollout.state, f"rollout {state}") + fallbacks


def _quality(row: reads.TaskRow) -> tuple[str, str]:
    reading = row.gate.reading if row.gate else None
    if row.gate is None or reading is None:
        return NONE, "no pair scored yet"
    bounds = f"points ({points(reading.low)} to {points(reading.high)}) in {row.gate.grader}, {reading.count:,} pairs"
    return points(reading.mean), bounds


def _connect(loose: int) -> None:
    gateway = page.settings().gateway
    st.markdown("Nothing is distilled yet. Point an app at the gateway; it answers as before, and keeps what it sees.")
    st.markdown("## 1 · Connect an app: one line changes")
    st.code(
        "from openai import OpenAI\n"
        f'client = OpenAI(base_url="http://{gateway.host}:{gateway.port}/v1")\n'
        'client.chat.completions.create(model="…", messages=[{"role": "user", "content": "Hello"}])',
        language="python",
        wrap_lines=True,
    )
    if loose:
        _pointer(f"{capped(loose)} exchanges have come in; they belong to no task yet.", "traffic")
    else:
        st.caption("Nothing has come in yet. This page sees it seconds after it does.")
    st.markdown("## 2 · Name the workload")
    st.code(
        "[tasks.triage]\n"
        'match = { model = "gpt-4.1", metadata = { app = "triage" } }\n'
        'teacher = { upstream = "openai", model = "gpt-4.1" }',
        language="toml",
        wrap_lines=True,
    )
    _pointer("Those lines go into `stillhouse.toml`; or make the task here, from the traffic.", "tasks")
    st.markdown("## 3 · Then")
    for view, text in STEPS.items():
        _pointer(text, view)


if __name__ == "__main__":
    show()
