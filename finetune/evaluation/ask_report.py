"""The scores of answers as tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from finetune.evaluation.ask_scores import METRICS

if TYPE_CHECKING:
    from rich.table import Table

NAMES = {
    "bleu_4": "BLEU-4",
    "rouge_l": "ROUGE-L",
    "factual_accuracy": "factual accuracy",
    "citation_precision": "citation precision",
    "abstention_precision": "abstention: precision",
    "abstention_recall": "abstention: recall",
    "abstention_f1": "abstention: F1",
    "perplexity": "perplexity of the reference",
    "depth": "depth, 1 to 5",
}
_WIDE = frozenset({"bleu_4", "perplexity"})
"""Metrics that are no shares: a digit after the point says enough."""
NOT_MEASURED = "not measured"


def tables(report: Mapping[str, Any], *, rows: bool = False) -> list[Table]:
    """All models beside each other, with paired differences to the first one; with ``rows`` every answer."""
    found = [_comparison(report)]
    if rows:
        found += [_rows(model) for model in report["models"]]
    return found


def _comparison(report: Mapping[str, Any]) -> Table:
    models = report["models"]
    head = [str(model["model"]) for model in models]
    more = [text for name in head[1:] for text in (f"{name} against {head[0]}", "verdict")]
    counted = f"{report['questions']} questions, {report['unanswerable']} of them not answered by the papers"
    table = _table(f"{report['set']}: {counted}", "", *(f"{name} [95%]" for name in head), *more)
    for metric in METRICS:
        cells = [_interval(model["scores"][metric], metric) for model in models]
        for one in report["differences"]:
            cells += [_interval(one["scores"][metric], metric, sign=True, none=""), one["verdicts"].get(metric, "")]
        table.add_row(NAMES[metric], *cells)
    for name, share in (("p50", 0), ("p95", 1)):
        times = [model["latency"] for model in models]
        cells = [NOT_MEASURED if one is None else f"{one[share]:.3g}" for one in times]
        table.add_row(f"seconds a question, {name}", *cells, *("" for _ in more))
    table.add_row("failed", *(str(model["failed"]) for model in models), *("" for _ in more))
    return table


def _rows(model: Mapping[str, Any]) -> Table:
    columns = ("supported", "on gold", "depth", "seconds", "answer", "reason of the judge, or of the failure")
    table = _table(f"{model['model']}: every question", "question", *columns)
    for column in table.columns[5:]:
        column.justify = "left"
    for row in model["rows"]:
        counts, judged = row["counts"], row["judged"] or {}
        table.add_row(
            row["question"] if row["answered"] else f"{row['question']} (not answered by the papers)",
            f"{counts['supported']:.0f} of {counts['sentences']:.0f}",
            f"{counts['on_gold']:.0f} of {counts['cited']:.0f}",
            str(judged.get("score", "")),
            "" if row["seconds"] is None else f"{row['seconds']:.2f}",
            row["answer"],
            row["error"] or judged.get("error") or judged.get("reason", ""),
        )
    return table


def _table(title: str, first: str, *columns: str) -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from harness.console import clean

    table = Table(title=escape(clean(title)), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, overflow="fold")
    for column in columns:
        table.add_column(escape(clean(column)), justify="right", overflow="fold")
    return table


def _interval(bounds: Sequence[float] | None, metric: str, *, sign: bool = False, none: str = NOT_MEASURED) -> str:
    if bounds is None:
        return none
    form = ("+" if sign else "") + (".1f" if metric in _WIDE else ".3f")
    value, low, high = bounds
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"
