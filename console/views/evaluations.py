"""Evaluations, as the page Students shows them: students, base and teacher side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from console import charts
from console.reads import evaluations as reads
from console.views import page
from console.views.words import NONE, interval, milliseconds, money, plain, score, when
from students import registry
from students.report import Arm, Figure, Report
from students.sentences import points

STATES = {"queued": "gray", "running": "blue", "succeeded": "green", "failed": "red"}
LEAST_SHOWN = 12
"""Slices of a name beyond this many values are those with the most rows."""


@page.live(5)
def listed(task: str | None) -> None:
    found = page.ask(reads.list_evaluations, task)
    if found:
        st.header("Evaluations", anchor=False)
        _cards(found)


def of_student(student: registry.Student) -> None:
    st.markdown("## Evaluations")
    found = page.ask(reads.evaluations_of, student.id, student.task)
    if found:
        _cards(found)
    else:
        st.caption("It has not been evaluated yet; a rollout asks for that.")


def _cards(found: Sequence[reads.Evaluation]) -> None:
    for one in found:
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            _badge(one)
            st.markdown(f"**{plain(one.task)}**")
            if one.report:
                st.markdown(plain(_headline(one.report)))
            elif one.moving:
                st.markdown(f"{one.progress.get('done', 0):,} of {one.progress.get('total', '?')} answers")
            st.caption(when(one.created_at, page.zone()))
            st.space("stretch")
            query = {"evaluation": one.id}
            st.page_link("views/students.py", label="Open", icon=":material/open_in_full:", query_params=query)


def _headline(report: Report) -> str:
    """The first grader's scores in a line: "category: teacher 92.0 %, student 91.0 %, base 12.0 %"."""
    grader = next(iter(report.graders), None)
    if grader is None:
        return f"{report.rows} rows"
    said = [f"{arm.role} {score(arm.scores[grader].mean)}" for arm in report.arms if grader in arm.scores]
    return f"{grader}: {', '.join(said)}"


def _badge(one: reads.Evaluation) -> None:
    colour: Any = STATES.get(one.state, "gray")
    st.badge(one.state, color=colour)


@page.live(3)
def opened(evaluation_id: str) -> None:
    """One evaluation: the report, or how far it is."""
    one = page.ask(reads.load_evaluation, evaluation_id)
    st.title(f"Evaluation of {plain(one.task)}")
    with st.container(horizontal=True, vertical_alignment="center"):
        _badge(one)
        st.caption(when(one.created_at, page.zone()))
        if one.dataset_id:
            query = {"dataset": one.dataset_id}
            st.page_link("views/datasets.py", label="Its dataset", icon=":material/dataset:", query_params=query)
    if one.error:
        st.error(plain(one.error), icon=":material/error:")
    done, total = one.progress.get("done", 0), one.progress.get("total")
    if one.moving:
        text = f"{done:,} of {total:,} answers" if total else "waits for the worker"
        st.progress(min(1.0, done / total) if total else 0.0, text=text)
    if one.report:
        _next(one)
        _report(one.report)


def _next(one: reads.Evaluation) -> None:
    """What came out in a sentence a student, and where to go with it."""
    for arm in one.report.arms if one.report else ():
        if arm.role != "student":
            continue
        gaps = [(grader, gap) for grader, gap in arm.differences.items() if gap is not None]
        said = "; ".join(f"{plain(grader)} {_gap(gap)} points" for grader, gap in gaps)
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{plain(_called(arm))}** against the teacher: {said or 'nothing could be compared'}")
            query = {"student": arm.student_id, "task": one.task}
            label, icon = "Start its rollout", ":material/stairs:"
            st.page_link("views/rollouts.py", label=label, icon=icon, query_params=query)


def _report(report: Report) -> None:
    st.caption(
        f"{report.rows:,} rows of the sealed holdout, {report.rows_with_truth:,} with a known truth; looked at "
        f"{report.looks} {'time' if report.looks == 1 else 'times'}. Intervals are 95 %."
    )
    for note in report.notes:
        st.info(plain(note), icon=":material/info:")
    _scores(report)
    _costs(report)
    _slices(report)
    students = [arm for arm in report.arms if arm.role == "student"]
    if students:
        _closer(students)


def _scores(report: Report) -> None:
    st.markdown("## Scores")
    rows = [
        {"name": grader, "group": _called(arm), **_percent(figure)}
        for grader in report.graders
        for arm in report.arms
        if (figure := arm.scores.get(grader))
    ]
    if not rows:
        st.caption("No grader could judge a row.")
        return
    chart = charts.forest(rows, "Scores, with 95 % intervals", "Score (%)", {})
    st.altair_chart(chart, key="scores", alt="Scores by grader")
    table: dict[str, list[str]] = {"Grader": list(report.graders), "Against": list(report.graders.values())}
    for arm in report.arms:
        table[_called(arm)] = [_figure(arm.scores.get(grader)) for grader in report.graders]
    for arm in report.arms:
        if arm.role == "student":
            table[f"{_called(arm)} − teacher (points)"] = [_gap(arm.differences.get(name)) for name in report.graders]
    st.dataframe(table, hide_index=True, alt="Scores by grader and arm")


def _called(arm: Arm) -> str:
    """Roles where they suffice: a name is long, and the teacher and the base are one each."""
    return arm.role if arm.role != "student" else f"student …{arm.name[-8:]}"


def _percent(figure: Figure) -> dict[str, float]:
    return {"mean": 100 * figure.mean, "low": 100 * figure.low, "high": 100 * figure.high}


def _figure(figure: Figure | None) -> str:
    return NONE if figure is None else f"{score(figure.mean)} ({interval(figure.low, figure.high)})"


def _gap(figure: Figure | None) -> str:
    return NONE if figure is None else f"{points(figure.mean)} ({points(figure.low)} to {points(figure.high)})"


def _costs(report: Report) -> None:
    arms = report.arms
    st.dataframe(
        {
            "Arm": [_called(arm) for arm in arms],
            "Name": [arm.name for arm in arms],
            "Rows": [arm.rows for arm in arms],
            "Errors": [arm.errors for arm in arms],
            "Latency, median": [milliseconds(arm.latency_p50_ms) for arm in arms],
            "Latency, 95 %": [milliseconds(arm.latency_p95_ms) for arm in arms],
            "Cost": [money(arm.cost_usd) for arm in arms],
        },
        hide_index=True,
        alt="Rows, errors, latency and cost by arm",
    )


def _slices(report: Report) -> None:
    names = sorted({name for arm in report.arms if arm.role != "teacher" for name in arm.slices})
    graders = list(report.graders)
    if not names or not graders:
        return
    st.markdown("## Slices")
    with st.container(horizontal=True):
        name = st.selectbox("Slice by", names, key="slice-name", width=220)
        grader = st.selectbox("Grader", graders, key="slice-grader", width=220)
    rows = [
        {"name": f"{value} ({figure.n})", "group": _called(arm), **_percent(figure)}
        for arm in report.arms
        if arm.role == "student"
        for value, figure in _largest(arm.slices.get(name, {}), grader)
    ]
    if not rows:
        st.caption("No pair of answers in these slices has a difference by this grader.")
        return
    title = f"{grader} by {name} (rows), 95 % intervals"
    chart = charts.forest(rows, title, "Student − teacher (points)", {"equal to the teacher": 0.0})
    st.altair_chart(chart, key="slices", alt=title)


def _largest(values: Mapping[str, Mapping[str, Figure]], grader: str) -> list[tuple[str, Figure]]:
    found = [(value, figures[grader]) for value, figures in values.items() if grader in figures]
    return sorted(found, key=lambda pair: -pair[1].n)[:LEAST_SHOWN]


def _closer(students: Sequence[Arm]) -> None:
    arm = students[0]
    if len(students) > 1:
        names = {one.student_id: one for one in students}
        chosen = st.selectbox("Look closer at", list(names), format_func=lambda one: names[one].name, key="closer")
        arm = names[chosen]
    if len(arm.confusion) > 1:
        chart = charts.confusion(arm.confusion, "Right labels, and those said", page.ink())
        st.altair_chart(chart, key="confusion", alt="Confusion table")
    _worst(arm)


def _worst(arm: Arm) -> None:
    st.markdown("## Worst answers")
    if not arm.worst:
        st.caption("None: the student lost to the teacher nowhere.")
        return
    for number, worst in enumerate(arm.worst):
        better = worst.teacher if worst.reference is None else worst.reference
        said = f"{plain(worst.output[:60])} **instead of** {plain(better[:60])}"
        label = f"{plain(worst.grader)} {points(worst.difference)} points · {said}"
        with st.expander(label, key=f"worst-{number}"):
            columns = st.columns(3 if worst.reference is not None else 2)
            for column, title, text in zip(columns, ("Student", "Teacher", "Right"), _texts(worst), strict=False):
                column.caption(title)
                column.code(text, language=None, wrap_lines=True)
            query = {"exchange": worst.exchange_id}
            st.page_link("views/traffic.py", label="The exchange", icon=":material/forum:", query_params=query)


def _texts(worst: Any) -> list[str]:
    return [text or "(empty)" for text in (worst.output, worst.teacher, worst.reference) if text is not None]
