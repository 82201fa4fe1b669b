"""What a run shows of itself: ``metrics.jsonl``, the loss curve in the terminal and as a PNG."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.outputs import atomic_write

Points = list[tuple[int, float]]
"""(step, value) in order."""
_BLOCKS = "▁▂▃▄▅▆▇█"
_KEPT = (
    "loss",
    "token_accuracy",
    "eval_loss",
    "eval_token_accuracy",
    "eval_seconds",
    "learning_rate",
    "grad_norm",
    "epoch",
)


def metric_line(entry: Mapping[str, Any]) -> str:
    """One entry of the trainer's log as a line of ``metrics.jsonl``."""
    kept = {name: round(float(entry[name]), 8) for name in _KEPT if name in entry}
    return json.dumps({"step": int(entry["step"]), **kept}) + "\n"


def rewrite_metrics(path: Path, history: Iterable[Mapping[str, Any]]) -> None:
    """Make the file say what a resumed run knows: lines after its checkpoint go, those before stay."""
    with atomic_write(path) as handle:
        handle.writelines(metric_line(entry) for entry in history if "loss" in entry or "eval_loss" in entry)


def append_metric(path: Path, entry: Mapping[str, Any]) -> None:
    """Add one line."""
    if "loss" in entry or "eval_loss" in entry:
        with path.open("a", encoding="utf-8") as handle:
            handle.write(metric_line(entry))


def curve(history: Iterable[Mapping[str, Any]], name: str) -> Points:
    """The course of one metric."""
    return [(int(entry["step"]), float(entry[name])) for entry in history if name in entry]


def sparkline(values: Sequence[float], width: int = 60) -> str:
    """A curve as one line of blocks; longer ones are averaged down to ``width``.

    >>> sparkline([3, 2, 1, 1])
    '█▅▁▁'
    """
    if len(values) > width:
        edges = [round(i * len(values) / width) for i in range(width + 1)]
        values = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    if not values:
        return ""
    low, span = min(values), (max(values) - min(values)) or 1.0
    return "".join(_BLOCKS[round((value - low) / span * (len(_BLOCKS) - 1))] for value in values)


def summary_lines(history: Sequence[Mapping[str, Any]]) -> list[str]:
    """Both losses as curves with their first and last value."""
    lines = []
    for name, label in (("loss", "loss"), ("eval_loss", "eval loss")):
        if values := [value for _, value in curve(history, name)]:
            lines.append(f"{label:>9}  {sparkline(values)}  {values[0]:.3f} → {values[-1]:.3f}")
    return lines


def write_png(path: Path, history: Sequence[Mapping[str, Any]], title: str) -> bool:
    """The loss curves as a picture; False where matplotlib is not installed."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError:
        return False
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    losses, accuracies = figure.subplots(), None
    for name, label, marker in (("loss", "training", ""), ("eval_loss", "validation", "o")):
        if points := curve(history, name):
            losses.plot(*zip(*points, strict=True), label=label, marker=marker, markersize=3)
    if points := curve(history, "eval_token_accuracy"):
        accuracies = losses.twinx()
        accuracies.plot(*zip(*points, strict=True), color="grey", linestyle=":", label="validation accuracy (right)")
        accuracies.set_ylabel("token accuracy")
    losses.xaxis.set_major_locator(MaxNLocator(integer=True))
    losses.set(xlabel="step", ylabel="loss per trained token", title=title)
    handles = [handle for axes in (losses, accuracies) if axes for handle in axes.get_legend_handles_labels()[0]]
    losses.legend(handles=handles)
    with atomic_write(path, binary=True) as handle:
        figure.savefig(handle, format="png", dpi=120, metadata={"Software": None})
    return True
