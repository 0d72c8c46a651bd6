"""Owns the simulator's pictures: curves of what part of the runs has got somewhere, as SVG without any library."""

import math
from collections.abc import Mapping, Sequence
from html import escape

from students.simulate import Report

WIDTH, HEIGHT = 720, 380
LEFT, RIGHT, TOP, BOTTOM = 60, 20, 48, 52
COLOURS = ("#2a6f97", "#c1121f", "#588157", "#9a6b00", "#6a4c93")
TICKS = 5

Curve = Sequence[tuple[float, float]]
"""Points (x, y) with y in [0, 1], drawn as steps."""


def pictures(report: Report) -> dict[str, str]:
    """File name → SVG: how many pairs it took, and how many wrong answers were served before a roll-back."""
    runs = len(report.endings)
    back = [ending for ending in report.endings if ending.rolled_back_at]
    took = {
        "proven": arrivals(report.proven_at, runs),
        "at full": arrivals([ending.full_at for ending in report.endings], runs),
        "rolled back": arrivals([ending.rolled_back_at for ending in report.endings], runs),
    }
    found = {"pairs.svg": curves("Runs that got there", "pairs", took)}
    if back:
        served = {"rolled back": shares_below([ending.bad_answers for ending in back])}
        found["bad-answers.svg"] = curves(
            "Runs with at most so many wrong answers served before their roll-back", "wrong answers", served
        )
    return found


def arrivals(reached_at: Sequence[int], runs: int) -> Curve:
    """The part of all runs that had got there by each pair; 0 stands for never."""
    there = sorted(at for at in reached_at if at)
    return [(0.0, 0.0), *((float(at), number / runs) for number, at in enumerate(there, start=1))]


def shares_below(values: Sequence[float]) -> Curve:
    """The part of the values that is at most x."""
    return [(float(value), number / len(values)) for number, value in enumerate(sorted(values), start=1)]


def curves(title: str, x_label: str, lines: Mapping[str, Curve]) -> str:
    """One SVG picture with a legend; light and dark by the reader's own background."""
    most = _rounded_up(max((x for line in lines.values() for x, _ in line), default=1.0))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
        f' aria-label="{escape(title)}" font-family="sans-serif" font-size="12" fill="#777">',
        f'<text x="{LEFT}" y="18" font-size="14">{escape(title)}</text>',
        *_axes(most, x_label),
    ]
    for number, (name, line) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        x = LEFT + number * 130
        parts.append(f'<path d="{_steps(line, most)}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<rect x="{x}" y="26" width="12" height="12" fill="{colour}"/>')
        parts.append(f'<text x="{x + 17}" y="36">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>\n"])


def _axes(most: float, x_label: str) -> list[str]:
    parts = []
    for tick in range(TICKS + 1):
        x, y = _x(most * tick / TICKS, most), _y(tick / TICKS)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#8884"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{100 * tick // TICKS} %</text>')
        label = f"{most * tick / TICKS:,g}"
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{label}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle:.0f}" y="{HEIGHT - 10}" text-anchor="middle">{escape(x_label)}</text>')
    return parts


def _steps(line: Curve, most: float) -> str:
    if not line:
        return ""
    (first_x, first_y), *rest = line
    drawn = f"M{_x(first_x, most):.1f} {_y(first_y):.1f}"
    drawn += "".join(f"H{_x(x, most):.1f}V{_y(y):.1f}" for x, y in _thinned(rest))
    return f"{drawn}H{WIDTH - RIGHT}"


def _thinned(points: Curve, most: int = 400) -> Curve:
    every = max(1, len(points) // most)
    return [point for number, point in enumerate(points, start=1) if number % every == 0 or number == len(points)]


def _x(value: float, most: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * value / most


def _y(share: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share


def _rounded_up(value: float) -> float:
    """The next 1, 2 or 5 times a power of ten, so that ticks are round."""
    if value <= 0:
        return 1.0
    size = 10.0 ** math.floor(math.log10(value))
    return next(size * step for step in (1, 2, 5, 10) if value <= size * step * (1 + 1e-9))
