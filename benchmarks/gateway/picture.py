"""The plots, as SVG written by hand: bars on a logarithmic scale, and lines of memory over time."""

import math
from collections.abc import Callable, Sequence
from xml.sax.saxutils import escape

from benchmarks.gateway.report import Results, failed, figure

_STYLE = (
    "<style>text{font:13px sans-serif;fill:#222}.title{font-weight:bold}.grid{stroke:#ddd}.axis{fill:#666}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}.grid{stroke:#444}.axis{fill:#aaa}}</style>"
)
_OURS, _OTHERS = "#c2410c", "#64748b"
_LINES = ("#64748b", "#0f766e", "#c2410c", "#7c3aed", "#2563eb", "#a16207", "#be185d", "#15803d")
_WIDTH, _LEFT, _RIGHT, _ROW = 760, 130, 90, 26


def cpu_bars(results: Results, ours: str) -> str:
    """Two groups of bars: µs a request, µs a stream."""
    if not results.peers:
        return _picture("", 40, "No peer was measured")
    groups = (("unary_us", "CPU a request, µs"), ("stream_us", "CPU a stream of 50 events, µs"))
    parts, top = [], 0
    for name, title in groups:
        rows = [(peer, figure(results, peer, name)) for peer in results.peers if not failed(results, peer, name)]
        parts.append(_group(rows, title, top, ours))
        top += 60 + _ROW * len(rows)
    return _picture("".join(parts), top, "CPU of the gateway and its peers")


def memory_lines(results: Results, ours: str) -> str:
    """Each peer's last round: MB, on a logarithmic scale, over seconds."""
    series = [(peer, [point for point in results.of(peer)[-1].memory if point[1] > 0]) for peer in results.peers]
    series = [(peer, points) for peer, points in series if points]
    if not series:
        return _picture("", 40, "No memory was sampled")
    height, seconds = 340, max(points[-1][0] for _, points in series)
    values = [value for _, points in series for _, value in points]
    y = _scale(min(values), max(values), height - 40, 40)
    x = _linear(seconds, _LEFT - 70, _WIDTH - 150)
    parts = [_text(10, 20, "Memory, MB", "title")]
    parts += [
        _line(_LEFT - 70, y(tick), _WIDTH - 150, y(tick)) + _text(10, y(tick) + 4, f"{tick:,g}", "axis")
        for tick in _ticks(values)
    ]
    parts += [_text(x(tick), height - 12, f"{tick:,.0f} s", "axis") for tick in (0, seconds / 2, seconds)]
    for number, (peer, points) in enumerate(series):
        colour = _OURS if peer == ours else _LINES[number % len(_LINES)]
        drawn = " ".join(f"{x(second):.1f},{y(value):.1f}" for second, value in points)
        parts.append(f'<polyline points="{drawn}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<rect x="{_WIDTH - 140}" y="{36 + number * 22}" width="12" height="12" fill="{colour}"/>')
        parts.append(_text(_WIDTH - 122, 47 + number * 22, peer))
    return _picture("".join(parts), height, "Memory of the gateway and its peers over time")


def _group(rows: Sequence[tuple[str, float]], title: str, top: int, ours: str) -> str:
    values = [max(value, 0.1) for _, value in rows]
    bottom = top + 40 + _ROW * len(rows)
    x = _scale(min(values) / 2, max(values), _LEFT, _WIDTH - _RIGHT)
    parts = [_text(10, top + 22, title, "title")]
    parts += [
        _line(x(tick), top + 34, x(tick), bottom) + _text(x(tick) - 8, bottom + 14, f"{tick:,g}", "axis")
        for tick in _ticks(values)
    ]
    for number, ((peer, _), value) in enumerate(zip(rows, values, strict=True)):
        at, colour = top + 38 + number * _ROW, _OURS if peer == ours else _OTHERS
        parts.append(_text(10, at + 15, peer))
        parts.append(f'<rect x="{_LEFT}" y="{at}" width="{x(value) - _LEFT:.1f}" height="18" fill="{colour}"/>')
        parts.append(_text(x(value) + 6, at + 14, f"{value:,.0f}"))
    return "".join(parts)


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """Logarithmic, from `low` at `start` to `high` at `end`."""
    least, span = math.log(low), max(math.log(high) - math.log(low), 0.01)
    return lambda value: start + (math.log(value) - least) / span * (end - start)


def _linear(high: float, start: float, end: float) -> Callable[[float], float]:
    return lambda value: start + value / max(high, 0.01) * (end - start)


def _ticks(values: Sequence[float]) -> list[float]:
    """The powers of ten within."""
    first, last = math.ceil(math.log10(min(values))), math.floor(math.log10(max(values)))
    return [10.0**power for power in range(first, last + 1)]


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{named}>{escape(text)}</text>'


def _line(x: float, y: float, to_x: float, to_y: float) -> str:
    return f'<line class="grid" x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}"/>'


def _picture(inside: str, height: float, title: str) -> str:
    size = f'width="{_WIDTH}" height="{height:.0f}" viewBox="0 0 {_WIDTH} {height:.0f}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size}><title>{escape(title)}</title>'
        f"{_STYLE}{inside}</svg>\n"
    )
