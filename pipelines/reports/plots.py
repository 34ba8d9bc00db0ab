"""Plots as inline SVG (pages/templates/plot.svg): lines, bars, histograms."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from markupsafe import Markup

from callward.pages.page import fragment

WIDTH: Final = 620
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 150, 14, 40
Points = Sequence[tuple[float, float]]
Panel = tuple[str, Sequence[float], Sequence[float]]  # heading, values in front, values behind


@dataclass(frozen=True)
class Shape:
    """One SVG element: its tag, its attributes, and its words where it is a text."""

    tag: str
    attributes: dict[str, Any]
    words: str = ""


@dataclass(frozen=True)
class Scale:
    """Values of an axis, from `first` to `last`; `log` for those that grow by factors; `write` writes one beside it."""

    first: float
    last: float
    ticks: Sequence[float]
    log: bool = False
    write: Callable[[float], str] = field(default=lambda value: f"{value:g}")

    def at(self, value: float) -> float:
        """Return where a value lies, from 0 to 1."""
        first, last, here = (math.log(v) if self.log else v for v in (self.first, self.last, value))
        return min(1.0, max(0.0, (here - first) / (last - first)))


@dataclass(frozen=True)
class Line:
    """A line with its name at the end; `dots` marks its points, `dashed` is for bounds."""

    name: str
    colour: str
    points: Points
    dashed: bool = False
    dots: bool = False


def share(value: float | None) -> str:
    """Return 0.125 as 13 %, as a person reads it: finer near the ends, never rounded to nothing or all, None a dash."""
    if value is None:
        return "–"
    if 0 < value < 0.0005 or 0.9995 <= value < 1:
        return "< 0.1 %" if value < 0.5 else "> 99.9 %"
    near_an_end = 0 < value < 0.0995 or 0.985 < value < 1
    return f"{100 * value:.{1 if near_an_end else 0}f} %"


SHARES: Final = Scale(0, 1, (0, 0.25, 0.5, 0.75, 1), write=lambda value: f"{100 * value:.0f} %")


def lines(title: str, across: str, up: str, x: Scale, y: Scale, drawn: Sequence[Line], height: int = 260) -> Markup:
    """Return lines over two axes."""
    right, bottom = WIDTH - _RIGHT, height - _BOTTOM

    def at(point: tuple[float, float]) -> tuple[float, float]:
        return _LEFT + x.at(point[0]) * (right - _LEFT), bottom - y.at(point[1]) * (bottom - _TOP)

    parts = [*_frame(x, y, across, up, right, bottom)]
    ends = _apart([at(line.points[-1])[1] for line in drawn], 15, bottom)
    for line, end in zip(drawn, ends, strict=True):
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in map(at, line.points))
        drawn_as = {"points": path, "fill": "none", "stroke": line.colour, "stroke-width": 2}
        parts.append(Shape("polyline", drawn_as | ({"stroke-dasharray": "5 4"} if line.dashed else {})))
        if line.dots:
            parts += [_dot(*at(point), line.colour) for point in line.points]
        parts.append(_text(right + 8, end + 4, line.name, line.colour))
    return _svg(title, height, parts)


def bars(title: str, rows: Sequence[tuple[str, float, str, str]], marks: Sequence[float | None] = ()) -> Markup:
    """Return shares as horizontal bars: (name, share, colour, its words); `marks` are what a bar may be at most."""
    step, left = 30, 320
    height = step * len(rows) + 8
    parts: list[Shape] = []
    for n, (name, value, colour, words) in enumerate(rows):
        top, room = 4 + n * step, WIDTH - left - 60
        length = max(1.5, min(1.0, max(0.0, value)) * room)
        parts.append(_text(left - 10, top + 17, name, "#1a1a1a", "end"))
        parts += [_bar(left, top + 4, room, 18, "#f1efea"), _bar(left, top + 4, length, 18, colour)]
        mark = marks[n] if n < len(marks) else None
        if mark is not None:
            here = left + mark * room
            dash = {"stroke-width": 1.5, "stroke-dasharray": "3 2"}
            parts.append(_path(f"M{here:.1f} {top}v26", "#1a1a1a", **dash))
        parts.append(_text(left + room + 8, top + 17, words, "#1a1a1a"))
    return _svg(title, height, parts)


def histograms(title: str, panels: Sequence[Panel], names: tuple[str, str]) -> Markup:
    """Return small panels side by side, each two histograms over each other; `names` are those of the two."""
    height, gap = 190, 24
    each = (WIDTH - gap * (len(panels) - 1)) / len(panels)
    parts: list[Shape] = []
    for n, (heading, front, behind) in enumerate(panels):
        parts += _panel(n * (each + gap), each, height, heading, front, behind)
    parts += [
        _bar(0, height - 12, 11, 11, _FRONT),
        _text(16, height - 2, names[0]),
        _bar(220, height - 12, 11, 11, _BEHIND, 0.55),
        _text(236, height - 2, names[1]),
    ]
    return _svg(title, height, parts)


_FRONT, _BEHIND = "#8a1c1c", "#5b6b7a"
_BINS: Final = 24


def _panel(
    left: float, wide: float, height: int, heading: str, front: Sequence[float], behind: Sequence[float]
) -> list[Shape]:
    both = [*front, *behind, 0.0, 1.0]
    whole = max(both) - min(both) < _BINS  # whole numbers have bars of their own
    first, last = (min(both) - 1.5, max(both) + 1.5) if whole else (min(both), max(both))
    bins = int(last - first) if whole else _BINS
    top, bottom = 26, height - 42
    parts = [_text(left, 12, heading, "#1a1a1a", weight=600)]
    for values, colour, opacity in ((behind, _BEHIND, 0.55), (front, _FRONT, 0.85)):
        for n, tall in enumerate(_heights(values, first, last, bins)):
            x, size = left + n * wide / bins, tall * (bottom - top)
            if size > 0:
                parts.append(_bar(x + 0.5, bottom - size, wide / bins - 1, size, colour, opacity))
    parts.append(_path(f"M{left:.1f} {bottom}h{wide:.1f}", "#777"))
    for value in _ends(first, last, whole):
        x = left + (value - first) / (last - first) * wide
        parts.append(_text(x, bottom + 14, f"{value:+.0f}" if value else "0", "#555", "middle"))
    return parts


def _heights(values: Sequence[float], first: float, last: float, bins: int) -> list[float]:
    """Return shares by bin, the largest bin of a series being at most 1."""
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, int((value - first) / (last - first) * bins))] += 1
    return [count / max(len(values), 1) / max(0.2, max(counts) / max(len(values), 1)) for count in counts]


def _ends(first: float, last: float, whole: bool) -> list[float]:
    return [0.0, 1.0] if whole else [round(first * 0.8, -1), 0.0, round(last * 0.8, -1)]


def _frame(x: Scale, y: Scale, across: str, up: str, right: float, bottom: float) -> list[Shape]:
    parts = []
    for tick in y.ticks:
        here = bottom - y.at(tick) * (bottom - _TOP)
        parts.append(_path(f"M{_LEFT} {here:.1f}H{right}", "#e2dfd8"))
        parts.append(_text(_LEFT - 7, here + 4, y.write(tick), "#555", "end"))
    for tick in x.ticks:
        here = _LEFT + x.at(tick) * (right - _LEFT)
        parts.append(_path(f"M{here:.1f} {bottom}v4", "#777"))
        parts.append(_text(here, bottom + 17, x.write(tick), "#555", "middle"))
    parts.append(_path(f"M{_LEFT} {bottom}H{right}", "#777"))
    parts.append(_text((_LEFT + right) / 2, bottom + 35, across, "#555", "middle"))
    parts.append(_text(_LEFT, _TOP - 4, up, "#555"))
    return parts


def _path(steps: str, colour: str, **more: Any) -> Shape:
    return Shape("path", {"d": steps, "stroke": colour, **more})


def _dot(x: float, y: float, colour: str) -> Shape:
    return Shape("circle", {"cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": 3.5, "fill": colour})


def _bar(x: float, y: float, wide: float, tall: float, colour: str, opacity: float = 1.0) -> Shape:
    size = {"x": f"{x:.1f}", "y": f"{y:.1f}", "width": f"{wide:.1f}", "height": f"{tall:.1f}", "fill": colour}
    return Shape("rect", size | ({"fill-opacity": opacity} if opacity < 1 else {}))


def _apart(heights: Sequence[float], least: float, bottom: float) -> list[float]:
    """Return heights of labels, pushed apart so that none lies over another."""
    order = sorted(range(len(heights)), key=lambda n: heights[n])
    placed = [0.0] * len(heights)
    before = -math.inf
    for n in order:
        placed[n] = before = max(heights[n], before + least)
    over = max(0.0, before - bottom)
    return [height - over for height in placed]


def _text(x: float, y: float, words: str, colour: str = "#1a1a1a", anchor: str = "start", weight: int = 400) -> Shape:
    set_as = {"x": f"{x:.1f}", "y": f"{y:.1f}", "fill": colour, "text-anchor": anchor}
    return Shape("text", set_as | ({"font-weight": weight} if weight != 400 else {}), words)


def _svg(title: str, height: float, shapes: Sequence[Shape]) -> Markup:
    return fragment("plot.svg", title=title, width=WIDTH, height=f"{height:.0f}", shapes=shapes)
