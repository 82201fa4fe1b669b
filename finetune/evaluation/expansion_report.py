"""The scores of models of /expand as tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from finetune.evaluation.expansion_scores import DIMENSIONS, JUDGED

if TYPE_CHECKING:
    from rich.table import Table

REASONS_SHOWN = 12


def tables(report: Mapping[str, Any], *, rows: bool = False) -> list[Table]:
    """Scores by category, dimensions, reasons, and what else was measured; with ``rows`` every query."""
    found = [_categories(model) for model in report["models"]]
    found += [_dimensions(report)]
    found += [_reasons(model) for model in report["models"] if model["all"]["reasons"]]
    if any(model.get("judged") for model in report["models"]):
        found.append(_judged(report))
    found += [_retrieval(model) for model in report["models"] if model.get("retrieval")]
    if rows:
        found += [_rows(model) for model in report["models"]]
    return found


def _categories(model: Mapping[str, Any]) -> Table:
    facts = [model["place"], model["contract"]]
    if model["contract"]:
        facts.append("as the model writes" if model["raw"] else "as /expand serves")
    if rate := model["queries_per_second"]:
        facts.append(f"{rate:g} queries/s")
    title = f"{model['model']} ({', '.join(fact for fact in facts if fact)})"
    columns = ("category", "queries", "score % [95%]", "80+", "parseable", "strict", "names kept", "diversity", "failed")
    table = _table(title, *columns)
    groups = [*model["categories"].items(), ("all", model["all"])]
    if unseen := model.get("unseen"):
        groups.append(("not in training", unseen))
    for name, figures in groups:
        table.add_row(
            name,
            str(figures["queries"]),
            _interval(figures["percentage"], ".1f"),
            _share(figures["excellent"], figures["queries"]),
            _share(figures["parseable"], figures["queries"]),
            "–" if figures["strict"] is None else f"{figures['strict'][0]:.3f}",
            "–" if figures["entities_kept"] is None else f"{figures['entities_kept']:.0%} of {figures['with_entities']}",
            "–" if figures["diversity"] is None else f"{figures['diversity']:.3f}",
            str(figures["failed"]),
            style="bold" if name == "all" else "",
        )
    return table


def _dimensions(report: Mapping[str, Any]) -> Table:
    models = report["models"]
    table = _table("Points by dimension", "dimension", *(model["model"] for model in models), "difference [95%]", "verdict")
    compared = report.get("differences", {})
    for name in DIMENSIONS:
        means = [f"{model['all']['dimensions'][name]:.2f}" for model in models]
        table.add_row(name, *means, *_difference(compared.get(name)))
    for name, form in (("percentage", ".1f"), ("strict", ".3f")):
        if models[0]["all"][name]:
            means = [f"{model['all'][name][0]:{form}}" for model in models]
            table.add_row(name, *means, *_difference(compared.get(name)))
    if "entities_kept" in compared:
        kept = [model["all"]["entities_kept"] for model in models]
        cells = ["–" if value is None else f"{value:.3f}" for value in kept]
        table.add_row("names kept", *cells, *_difference(compared["entities_kept"]))
    return table


def _difference(found: Mapping[str, Any] | None) -> tuple[str, str]:
    return ("", "") if found is None else (_interval(found["difference"], "+.3f"), found["verdict"])


def _reasons(model: Mapping[str, Any]) -> Table:
    table = _table(f"{model['model']}: reasons for deductions", "reason", "expansions", "points")
    for reason, (times, points) in list(model["all"]["reasons"].items())[:REASONS_SHOWN]:
        table.add_row(reason, str(times), str(points) if points else "all")
    return table


def _judged(report: Mapping[str, Any]) -> Table:
    table = _table("Judged queries: terms found", "model", "must keep (in lex)", "good terms", "bad terms")
    for model in report["models"]:
        if judged := model.get("judged"):
            cells = [
                f"{judged[name]['found']} of {judged[name]['terms']}, {_interval(judged[name]['mean_share'], '.1%')}"
                for name in JUDGED
            ]
            table.add_row(model["model"], *cells)
    return table


def _retrieval(model: Mapping[str, Any]) -> Table:
    columns = ("set", "metric", "BM25", "with expansion", "difference [95%]", "verdict", "where used")
    table = _table(f"{model['model']}: retrieval", *columns)
    for name, figures in model["retrieval"].items():
        label = f"{name}, used on {figures['expanded']} of {figures['queries']}"
        for metric in (key for key in figures if key not in ("queries", "expanded")):
            values = figures[metric]
            table.add_row(
                label,
                metric,
                _interval(values["without"], ".3f"),
                _interval(values["with"], ".3f"),
                _interval(values["difference"], "+.3f"),
                values["verdict"],
                _interval(values.get("difference_where_used"), "+.3f"),
            )
            label = ""
    return table


def _rows(model: Mapping[str, Any]) -> Table:
    table = _table(f"{model['model']}: every query", "query", "score %", "strict", "expansion", "reasons")
    table.columns[3].justify = table.columns[4].justify = "left"
    for row in model["rows"]:
        strict = "–" if row["strict"] is None else f"{row['strict']:.3f}"
        written = row["text"] or row["error"]
        table.add_row(row["query"], f"{row['percentage']:.1f}", strict, written, "\n".join(row["reasons"]))
    return table


def _table(title: str, first: str, *columns: str) -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from harness.console import clean

    table = Table(title=escape(clean(title)), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, overflow="fold")
    for column in columns:
        table.add_column(escape(column), justify="right", overflow="fold")
    return table


def _interval(bounds: Sequence[float] | None, form: str) -> str:
    if bounds is None:
        return "–"
    value, low, high = bounds
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


def _share(count: int, of: int) -> str:
    return f"{count} ({count / of:.0%})" if of else "–"
