"""Charts as self-contained SVG: no fonts, scripts or files from elsewhere, readable in light and dark pages alike.

Two kinds, as pure functions from numbers to text: values with intervals on one axis (a forest plot), and bars.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d1f", "#666666")
"""The palette of Okabe and Ito (2008), told apart by the colour-blind too, two of its tones darkened."""
INK, GRID = "#555555", "#cccccc"
ROW, LABEL, WIDTH, RIGHT = 20, 210, 760, 90


@dataclass(frozen=True)
class Mark:
    """One value of a row, and the series (the colour) it belongs to."""

    series: int
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Panel:
    """A drawn part of a page: SVG elements relative to its own corner, and its height."""

    body: str
    height: int


def page(panels: Sequence[Panel], title: str) -> str:
    """An SVG document with the panels below each other."""
    parts, top = [], 34
    for panel in panels:
        parts.append(f'<g transform="translate(0 {top})">{panel.body}</g>')
        top += panel.height + 18
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" width="{WIDTH}" height="{top}" '
        f'font-family="sans-serif" font-size="12" role="img"><title>{_safe(title)}</title>'
        f'<rect width="{WIDTH}" height="{top}" fill="#ffffff"/>{_text(12, 20, title, size=15)}{"".join(parts)}</svg>\n'
    )


def legend(names: Sequence[str]) -> Panel:
    """One line a series, in its colour."""
    parts = []
    for row, name in enumerate(names):
        parts.append(f'<rect x="12" y="{row * ROW}" width="11" height="11" fill="{colour(row)}"/>')
        parts.append(_text(30, row * ROW + 10, name, most=90))
    return Panel("".join(parts), len(names) * ROW)


def forest(title: str, rows: Sequence[tuple[str, Sequence[Mark]]], *, low: float = 0.0, high: float = 1.0) -> Panel:
    """Values with intervals on one axis from ``low`` to ``high``; those of one row stand below each other."""
    parts, y = [_text(12, 12, title, bold=True)], 22
    top = y
    for label, marks in rows:
        step = max(9, ROW // max(1, len(marks)))
        height = step * max(1, len(marks)) + 6
        parts.append(_text(LABEL - 10, y + height // 2 + 1, label, anchor="end", most=30))
        parts += [_whisker(mark, y + 7 + place * step, low, high) for place, mark in enumerate(marks)]
        y += height
    return Panel("".join([_axis(low, high, top, y), *parts]), y + 18)


def bars(title: str, rows: Sequence[tuple[str, float | None, int]], unit: str) -> Panel:
    """One bar a row ``(label, value or None, series)``, from zero to the largest."""
    parts = [_text(12, 12, title, bold=True)]
    most = max((value for _, value, _ in rows if value is not None), default=0.0) or 1.0
    for place, (label, value, series) in enumerate(rows):
        y = 22 + place * ROW
        parts.append(_text(LABEL - 10, y + 11, label, anchor="end", most=30))
        length = 0.0 if value is None else (WIDTH - LABEL - RIGHT) * value / most
        parts.append(f'<rect x="{LABEL}" y="{y}" width="{length:.1f}" height="13" fill="{colour(series)}"/>')
        said = "not measured" if value is None else f"{value:,.0f} {unit}" if value >= 10 else f"{value:.2g} {unit}"
        parts.append(_text(LABEL + length + 6, y + 11, said))
    return Panel("".join(parts), 22 + len(rows) * ROW)


def colour(series: int) -> str:
    """The colour of a series; they repeat after eight."""
    return COLOURS[series % len(COLOURS)]


def _whisker(mark: Mark, y: int, low: float, high: float) -> str:
    value, left, right = (_x(number, low, high) for number in (mark.value, mark.low, mark.high))
    tone = colour(mark.series)
    return (
        f'<path d="M{left:.1f} {y}H{right:.1f}M{left:.1f} {y - 3}v6M{right:.1f} {y - 3}v6" stroke="{tone}" fill="none"/>'
        f'<circle cx="{value:.1f}" cy="{y}" r="3.5" fill="{tone}"/>'
    )


def _axis(low: float, high: float, top: int, bottom: int) -> str:
    """Five grid lines with their numbers below."""
    parts = []
    for step in range(6):
        number = low + (high - low) * step / 5
        x = _x(number, low, high)
        parts.append(f'<path d="M{x:.1f} {top}V{bottom}" stroke="{GRID}"/>')
        parts.append(_text(x, bottom + 13, f"{number:.1f}", anchor="middle"))
    return "".join(parts)


def _x(value: float, low: float, high: float) -> float:
    share = min(max((value - low) / (high - low), 0.0), 1.0)
    return LABEL + share * (WIDTH - LABEL - RIGHT)


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 0, bold: bool = False, most: int = 0) -> str:
    if most and len(text) > most:
        text = f"…{text[-most + 1 :]}"  # the end of a path tells more than its beginning
    extra = (f' font-size="{size}"' if size else "") + (' font-weight="bold"' if bold else "")
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{INK}" text-anchor="{anchor}"{extra}>{_safe(text)}</text>'


def _safe(text: str) -> str:
    """Text as it may stand in XML: escaped, and without the control characters that XML forbids."""
    return html.escape("".join(char if char >= " " else " " for char in text))
