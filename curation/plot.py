"""The scores per persona as one self-contained HTML page with a drawing (SVG); it loads nothing and runs nothing."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from curation.stats import SCORES, PersonaStats, by_check, by_persona

COLOURS = {1: "#b2182b", 2: "#ef8a62", 3: "#d9d9d9", 4: "#67a9cf", 5: "#2166ac", 0: "#555555"}
"""By score; 0 is a reply that could not be read. A diverging scale that colour-blind readers can tell apart."""
WIDTH, ROW, LABEL, TOP = 900, 46, 150, 20


def draw(records: Sequence[Mapping[str, Any]], title: str) -> str:
    """The page: one bar a persona, cut into its scores, then the checks that rejected most."""
    people = by_persona(records)
    verdicts = [record["verdict"] for record in records]
    line = ", ".join(f"{verdicts.count(name)} {name}" for name in ("kept", "rejected", "failed") if name in verdicts)
    checks = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{count}</td></tr>" for name, count in by_check(records).most_common()
    )
    table = f"<h2>Rows rejected, by check</h2><table>{checks}</table>" if checks else ""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{html.escape(title)}</title><style>body{{font:16px system-ui,sans-serif;margin:2em;max-width:60em}}"
        "td{padding:.1em 1em .1em 0}text{font:14px system-ui,sans-serif}</style></head><body>"
        f"<h1>{html.escape(title)}</h1>\n<p>{len(records)} rows: {html.escape(line)}</p>\n"
        f"{_bars(people)}\n{table}</body></html>\n"
    )


def _bars(people: Sequence[PersonaStats]) -> str:
    height = TOP + ROW * len(people) + 40
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">']
    parts.append("<title>Scores per persona</title>")
    for position, one in enumerate(people):
        parts += _bar(one, TOP + position * ROW)
    for position, score in enumerate((*SCORES, 0)):
        x, y = LABEL + position * 110, height - 24
        name = f"score {score}" if score else "unreadable"
        parts.append(f'<rect x="{x}" y="{y}" width="14" height="14" fill="{COLOURS[score]}"/>')
        parts.append(f'<text x="{x + 20}" y="{y + 12}">{name}</text>')
    return "\n".join([*parts, "</svg>"])


def _bar(one: PersonaStats, y: int) -> list[str]:
    parts = [f'<text x="0" y="{y + 20}">{html.escape(one.name)}</text>']
    x, unit = float(LABEL), (WIDTH - LABEL - 130) / max(1, one.votes)
    for score, count in (*one.scores.items(), (0, one.failed)):
        if count:
            label = f"{one.name}, {f'score {score}' if score else 'unreadable'}: {count}"
            parts.append(
                f'<rect x="{x:.1f}" y="{y}" width="{count * unit:.1f}" height="30" fill="{COLOURS[score]}">'
                f"<title>{html.escape(label)}</title></rect>"
            )
            x += count * unit
    mean = "" if one.mean is None else f"mean {one.mean:.2f}, "
    parts.append(f'<text x="{x + 10:.1f}" y="{y + 20}">{mean}{one.passed / max(1, one.votes):.0%} pass</text>')
    return parts
