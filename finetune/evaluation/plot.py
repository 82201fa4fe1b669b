"""The comparison as one SVG picture: macro-F1, F1 of each move, evenness of depth, speed and memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finetune.evaluation import svg
from finetune.evaluation.report import MB, labels


def draw(report: Mapping[str, Any]) -> str:
    """SVG of a report (``scores.json``); the same report gives the same bytes."""
    models, called = report["models"], labels(report)
    panels = [
        svg.legend([called[row["model"]] for row in models]),
        svg.forest(
            "Macro-F1 with 95% intervals",
            [(called[row["model"]], [svg.Mark(n, *row["macro_f1"])]) for n, row in enumerate(models)],
        ),
        svg.forest(
            "F1 of each move",
            [(move, [svg.Mark(n, *row["f1"][move]) for n, row in enumerate(models)]) for move in report["moves"]],
        ),
    ]
    spread = [
        (called[row["model"]], 100 * row["consistency"]["overall"]["words_cv"], n)
        for n, row in enumerate(models)
        if row["consistency"]
    ]
    if spread:
        gold = 100 * report["gold_consistency"]["overall"]["words_cv"]
        panels.append(svg.bars(f"Spread of words a move, per cent of the mean (gold {gold:.0f})", spread, "%"))
    speed = [(called[row["model"]], row["papers_per_minute"], n) for n, row in enumerate(models) if row["consistency"]]
    memory = [
        (called[row["model"]], row["peak_bytes"] and row["peak_bytes"] / MB, n)
        for n, row in enumerate(models)
        if row["consistency"]
    ]
    if speed:
        panels += [svg.bars("Papers a minute", speed, ""), svg.bars("Peak memory", memory, "MB")]
    return svg.page(panels, f"{report['set']}: {len(report['papers'])} papers, {report['sentences']} sentences")
