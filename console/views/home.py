"""Home: each task a row, and what waits for a person; on an empty install, how to connect an app."""

import streamlit as st

from console.reads import home as reads
from console.views import page
from console.views.words import NONE, capped, count, money, percent, plain
from students.sentences import points, stage_name

ICONS = {"traffic": "forum", "datasets": "dataset", "students": "school", "rollouts": "stairs"}


def show() -> None:
    st.title("Tasks at a glance")
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
        st.caption(f"{capped(loose)} exchanges belong to no task; a rule on the page Tasks can claim such traffic.")


def _task(row: reads.TaskRow) -> None:
    with st.container(border=True, key=f"task-{row.name}"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.header(plain(row.name), anchor=False, width="content")
            st.caption(f"teacher {plain(row.teacher)}")
            st.space("stretch")
            query = {"task": row.name}
            st.page_link("views/traffic.py", label="Traffic", icon=":material/forum:", query_params=query)
        _figures(row)
        for waiting in row.waiting:
            icon = f":material/{ICONS[waiting.page]}:"
            label = f":orange-badge[waits for you] {waiting.what}"
            st.page_link(f"views/{waiting.page}.py", label=label, icon=icon)


def _figures(row: reads.TaskRow) -> None:
    recent = row.recent
    with st.container(horizontal=True, gap="small"):
        _figure("Stored", count(row.stored), f"{capped(recent.count)} in the last day", "Exchanges in the store.")
        unpriced = f"; {capped(recent.unpriced)} of unknown price" if recent.unpriced else ""
        _figure(
            "Spend, last day",
            money(recent.cost_usd),
            f"all arms{unpriced}" if recent.count else "nothing came in",
            _over(recent),
        )
        _figure("Student share", percent(recent.share), _stage(row), _over(recent))
        quality, bounds = _quality(row)
        saved = "estimate" if recent.student else "no student has answered yet"
        _figure("Against teacher", quality, bounds, "Student minus teacher in percentage points, with its bounds.")
        _figure("Saved, last day", money(recent.saved_usd), saved, "What the teacher would have charged on average.")


def _figure(label: str, value: str, below: str, text: str) -> None:
    with st.container(width=136, gap=None):
        st.metric(label, value, help=text)
        st.caption(plain(below))


def _over(recent: reads.Recent) -> str:
    return f"Over the newest {recent.count:,} exchanges of the last day." if recent.count else "No exchange in a day."


def _stage(row: reads.TaskRow) -> str:
    if row.rollout is None:
        return "no rollout yet"
    state = row.rollout.state.replace("_", " ")
    stage = f", {stage_name(row.rollout.share)}" if row.rollout.state in ("running", "paused") else ""
    fallbacks = f"; {row.recent.fallback:,} fell back" if row.recent.fallback else ""
    return f"rollout {state}{stage}{fallbacks}"


def _quality(row: reads.TaskRow) -> tuple[str, str]:
    reading = row.gate.reading if row.gate else None
    if row.gate is None or reading is None:
        return NONE, "no pair scored yet"
    bounds = f"{points(reading.low)} to {points(reading.high)} in {row.gate.grader}, {reading.count:,} pairs"
    return f"{points(reading.mean)} points", bounds


def _connect(loose: int) -> None:
    gateway = page.settings().gateway
    st.markdown("Nothing is distilled yet. Point an app at the gateway; it answers as before, and keeps what it sees.")
    st.markdown("## 1 · Connect an app: one line changes")
    st.code(
        "from openai import OpenAI\n"
        f'client = OpenAI(base_url="http://{gateway.host}:{gateway.port}/v1")\n'
        'client.chat.completions.create(model="…", messages=[{"role": "user", "content": "Hello"}])',
        language="python",
    )
    st.markdown("## 2 · Name the workload: a task in `stillhouse.toml`")
    st.code(
        "[tasks.triage]\n"
        'match = { model = "gpt-4.1", metadata = { app = "triage" } }\n'
        'teacher = { upstream = "openai", model = "gpt-4.1" }',
        language="toml",
    )
    st.markdown("## 3 · Then")
    st.markdown(
        "Look at what comes in on **Traffic** and review some of it, build a **dataset**, train a **student**, "
        "and let a **rollout** move the traffic when the student has proven itself."
    )
    if loose:
        st.info(f"{capped(loose)} exchanges have come in that belong to no task.", icon=":material/forum:")
        st.page_link("views/traffic.py", label="Look at them", icon=":material/forum:")


if __name__ == "__main__":
    show()
