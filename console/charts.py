"""The console's charts: plain data in, an Altair chart out; every axis has a title with its unit."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import altair as alt

from console.reads.rollouts import Point

STUDENT, TEACHER, BASE, HARM, QUIET = "#2f9e6e", "#4c78c8", "#9a8f80", "#d1495b", "#8a8f98"
STUDENTS = (STUDENT, "#b8860b", "#8e5bb5", "#c0632f")
HEIGHT = 320
FRAME = 130
"""What title, legend and axis take of a chart's height, which Streamlit counts in."""

Chart = alt.Chart | alt.LayerChart | alt.FacetChart


def loss(points: Sequence[tuple[int, float]]) -> Chart:
    """Training loss by optimiser step."""
    data = alt.InlineData(values=[{"step": step, "loss": value} for step, value in points])
    chart: alt.Chart = (
        alt.Chart(data, title="Training loss", height=HEIGHT)
        .mark_line(color=STUDENT, point=alt.OverlayMarkDef(color=STUDENT) if len(points) < 60 else False)
        .encode(
            x=alt.X("step:Q", title="Step", axis=_whole_numbers()),
            y=alt.Y("loss:Q", title="Loss (nats per token)", scale=alt.Scale(zero=False)),
            tooltip=[alt.Tooltip("step:Q", title="Step"), alt.Tooltip("loss:Q", title="Loss", format=".4f")],
        )
    )
    return chart


def confidence(points: Sequence[Point], grader: str, margin: float, alpha: float) -> Chart:
    """A gate's confidence sequence over pairs, with zero and the margin drawn; all in percentage points."""
    values = [{"pairs": p.pairs, "mean": 100 * p.mean, "low": 100 * p.low, "high": 100 * p.high} for p in points]
    y_range = _window(values, margin)
    scale = alt.Scale(domain=list(y_range), nice=False)
    frame = alt.Chart(alt.InlineData(values=values))
    x = alt.X("pairs:Q", title="Pairs counted", axis=_whole_numbers(), scale=alt.Scale(nice=False))
    tooltip = [
        alt.Tooltip("pairs:Q", title="Pairs"),
        alt.Tooltip("mean:Q", title="Mean (points)", format="+.1f"),
        alt.Tooltip("low:Q", title="At least (points)", format="+.1f"),
        alt.Tooltip("high:Q", title="At most (points)", format="+.1f"),
    ]
    band = frame.mark_area(opacity=0.22, color=STUDENT, interpolate="step-after", clip=True).encode(
        x=x, y=alt.Y("low:Q", title="Student − teacher (points)", scale=scale), y2="high:Q", tooltip=tooltip
    )
    mean = frame.mark_line(color=STUDENT, clip=True).encode(x=x, y=alt.Y("mean:Q", scale=scale), tooltip=tooltip)
    equal, allowed = _line(0, "equal to the teacher", QUIET), _line(-100 * margin, f"margin −{100 * margin:.3g}", HARM)
    lines = (*equal, *allowed)
    title = alt.Title(f"{grader}: student − teacher", subtitle=f"bounds at α {alpha:.2g} each", subtitleColor=QUIET)
    return alt.layer(band, mean, *lines).properties(title=title, height=HEIGHT + 80)


def _window(values: Sequence[Mapping[str, float]], margin: float) -> tuple[float, float]:
    """The part of ±100 points that is worth showing: the last bounds, the means and the margin, with some air."""
    last = values[-1]
    bounds = [max(-60.0, last["low"]), min(60.0, last["high"])]
    means = [value["mean"] for value in values[len(values) // 10 :]]
    low = min(*bounds, *means, -200 * margin)
    high = max(*bounds, *means, 100 * margin)
    air = 0.15 * (high - low)
    return max(-100.0, low - air), min(100.0, high + air)


def _line(at: float, text: str, colour: str) -> Sequence[alt.Chart]:
    data = alt.InlineData(values=[{"at": at, "text": text}])
    rule = alt.Chart(data).mark_rule(color=colour, strokeDash=[5, 4]).encode(y="at:Q")
    label = (
        alt.Chart(data)
        .mark_text(align="left", dx=4, dy=-7 if at >= 0 else 9, color=colour, fontWeight=600)
        .encode(y="at:Q", x=alt.value(0), text="text:N")
    )
    return rule, label


def forest(rows: Sequence[Mapping[str, Any]], title: str, x_title: str, marks: Mapping[str, float]) -> Chart:
    """Intervals under one another: rows of {name, group, mean, low, high}, and `marks` as upright lines by name."""
    frame = alt.Chart(alt.InlineData(values=list(rows)))
    order = list(dict.fromkeys(row["name"] for row in rows))
    y = alt.Y("name:N", title=None, sort=order, axis=alt.Axis(labelLimit=260, labelOverlap=False))
    groups = list(dict.fromkeys(row["group"] for row in rows))
    scale = alt.Scale(domain=groups, range=_colours(groups))
    colour = alt.Color("group:N", title=None, scale=scale, legend=alt.Legend(orient="top"))
    tooltip = [
        alt.Tooltip("name:N", title=""),
        alt.Tooltip("group:N", title="Of"),
        alt.Tooltip("mean:Q", title="Mean", format=".1f"),
        alt.Tooltip("low:Q", title="From", format=".1f"),
        alt.Tooltip("high:Q", title="To", format=".1f"),
    ]
    offset = alt.YOffset("group:N", sort=groups)
    bars = frame.mark_rule(strokeWidth=3).encode(
        x=alt.X("low:Q", title=x_title, scale=alt.Scale(zero=False)),
        x2="high:Q",
        y=y,
        yOffset=offset,
        color=colour,
        tooltip=tooltip,
    )
    dots = frame.mark_point(filled=True, size=70).encode(x="mean:Q", y=y, yOffset=offset, color=colour, tooltip=tooltip)
    layers: list[Any] = [bars, dots]
    for name, at in marks.items():
        data = alt.InlineData(values=[{"at": at, "what": name}])
        rule = alt.Chart(data).mark_rule(strokeDash=[5, 4], color=HARM if at else QUIET)
        layers.append(rule.encode(x="at:Q", tooltip=alt.Tooltip("what:N", title="")))
    return alt.layer(*layers).properties(title=title, height=FRAME + len(order) * (14 + 16 * len(groups)))


def confusion(cells: Mapping[str, Mapping[str, int]], title: str, ink: str) -> Chart:
    """Counts by what was right and what was said; `ink` is the colour of the numbers."""
    values = [
        {"truth": right, "said": answer, "count": number, "right": right == answer}
        for right, row in cells.items()
        for answer, number in row.items()
    ]
    truth, said = "Right", "Said"
    labels = sorted({*cells, *(answer for row in cells.values() for answer in row)})
    frame = alt.Chart(alt.InlineData(values=values))
    x = alt.X("said:N", title=said, sort=labels, axis=alt.Axis(labelAngle=-40, labelLimit=140, labelOverlap=False))
    y = alt.Y("truth:N", title=truth, sort=labels, axis=alt.Axis(labelLimit=140))
    tooltip = [
        alt.Tooltip("truth:N", title=truth),
        alt.Tooltip("said:N", title=said),
        alt.Tooltip("count:Q", title="Answers", format="d"),
    ]
    square = frame.mark_rect().encode(
        x=x,
        y=y,
        color=alt.Color("right:N", scale=alt.Scale(domain=[True, False], range=[STUDENT, HARM]), legend=None),
        opacity=alt.Opacity("count:Q", scale=alt.Scale(type="sqrt", range=[0.15, 0.6]), legend=None),
        tooltip=tooltip,
    )
    number = frame.mark_text(fontWeight=600, color=ink).encode(x=x, y=y, text="count:Q", tooltip=tooltip)
    return alt.layer(square, number).properties(title=title, height=FRAME + 60 + 30 * len(labels))


def shares(points: Sequence[tuple[datetime, float, str]]) -> Chart:
    """The student's share over time, a step at each verdict."""
    data = alt.InlineData(values=[{"at": at.isoformat(), "share": share, "what": what} for at, share, what in points])
    chart: alt.Chart = (
        alt.Chart(data, title="Student share by verdict", height=HEIGHT)
        .mark_line(color=STUDENT, interpolate="step-after", point=alt.OverlayMarkDef(color=STUDENT))
        .encode(
            x=alt.X("at:T", title="Time", axis=alt.Axis(format="%d %b %H:%M", labelOverlap="greedy", tickCount=6)),
            y=alt.Y("share:Q", title="Share of the task's traffic", axis=alt.Axis(format="%"), scale=_whole()),
            tooltip=[
                alt.Tooltip("at:T", title="At", format="%d %b %H:%M:%S"),
                alt.Tooltip("share:Q", title="Share", format=".0%"),
                alt.Tooltip("what:N", title="Verdict"),
            ],
        )
    )
    return chart


def _whole() -> alt.Scale:
    return alt.Scale(domain=[0, 1])


def _whole_numbers() -> alt.Axis:
    return alt.Axis(format="d", tickMinStep=1, labelOverlap="greedy", tickCount=10)


def _colours(groups: Sequence[str]) -> list[str]:
    """Teacher and base always look the same; students take theirs in turn."""
    fixed = {"teacher": TEACHER, "base": BASE}
    others = [group for group in groups if group not in fixed]
    return [fixed.get(group) or STUDENTS[others.index(group) % len(STUDENTS)] for group in groups]


def bars(counts: Mapping[str, int], title: str, unit: str) -> Chart:
    """Counts by name, the largest first."""
    data = alt.InlineData(values=[{"name": name, "count": number} for name, number in counts.items()])
    frame = alt.Chart(data, title=title, height=FRAME + 26 * len(counts))
    y = alt.Y("name:N", title=None, sort="-x", axis=alt.Axis(labelLimit=220, labelOverlap=False))
    x = alt.X("count:Q", title=unit, axis=_whole_numbers())
    tooltip = [alt.Tooltip("name:N", title=""), alt.Tooltip("count:Q", title=unit, format=",d")]
    bar = frame.mark_bar(color=TEACHER).encode(y=y, x=x, tooltip=tooltip)
    return alt.layer(bar, frame.mark_text(align="left", dx=4, color=QUIET).encode(y=y, x=x, text="count:Q"))
