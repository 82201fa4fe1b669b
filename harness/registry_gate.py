"""Whether a candidate may take the place of what is served: its own minimum, then not worse beyond noise.

The registry runs no evaluation. What was measured arrives as confusion counts for each paper and move,
``[papers, moves, 3]`` (right, wrong, missed sentences), from ``finetune/eval.py annotate -o``, and lies beside the entry as
``TAG.counts.json``. Two models scored on the same papers are compared by the paired bootstrap of ``harness.bootstrap``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import InputError, UsageError
from harness.registry_entry import Entry, same_name

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Decision:
    """What the gate says of a candidate against one model that is served."""

    allowed: bool
    reason: str
    """One line."""
    difference: float = 0.0
    """Score of the candidate minus that of the served model."""
    interval: tuple[float, float] | None = None
    """95% of the difference; None where there are no counts to say."""


@dataclass(frozen=True)
class Scored:
    """A model's score on a set, and its counts where they are known."""

    name: str
    score: float | None
    papers: tuple[str, ...] = ()
    counts: Counts | None = None


def check_gate(entry: Entry) -> str:
    """Why an entry does not reach its own gate, as one line; empty when it does."""
    if entry.gate is None:
        return f"{entry.name} has no gate"
    what = f"{entry.gate.metric} on {entry.gate.set}"
    if entry.score is None:
        return f"{entry.name} has no score {what}"
    if not entry.score >= entry.gate.minimum:
        return f"{entry.name} has {what} of {entry.score:g}, its gate asks for {entry.gate.minimum:g}"
    return ""


def promotion(candidate: Scored, active: Scored, *, seed: int = 0) -> Decision:
    """Whether the candidate is not worse than the active model beyond noise.

    With counts on the same papers, it is refused only when the whole 95% interval of the difference lies below zero.
    Without them noise cannot be told, and any lower score is refused.
    """
    if candidate.score is None or active.score is None:
        missing = candidate if candidate.score is None else active
        return Decision(False, f"{missing.name} has no score to compare {candidate.name} and {active.name} by")
    gap = candidate.score - active.score
    if candidate.counts is None or active.counts is None or candidate.papers != active.papers:
        if gap < 0:
            why = f"{candidate.name} scores {-gap:.4f} less than {active.name}, and there are no counts to tell noise by"
            return Decision(False, why, gap)
        return Decision(True, f"{candidate.name} scores no less than {active.name}", gap)
    from harness import bootstrap  # numpy is not imported before there is something to compare

    _, low, high = bootstrap.difference(candidate.counts, active.counts, seed=seed)
    found = f"{candidate.name} minus {active.name}: {gap:+.4f} [{low:+.4f}, {high:+.4f}]"
    if high < 0:
        return Decision(False, f"worse beyond noise: {found}", gap, (low, high))
    return Decision(True, found, gap, (low, high))


# ---- counts beside an entry ----


def counts_file(entry: Entry) -> Path:
    """Where an entry's counts lie."""
    return entry.file.with_suffix(".counts.json")


def read_report(path: Path) -> Mapping[str, Any]:
    """A scores file: ``set``, ``papers``, ``models`` (each ``model``, ``macro_f1``, ``f1``, ``counts``).

    That of answers says ``"task": "ask"``, and its models have ``scores`` with intervals instead. Raises InputError.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        for row in report["models"]:
            str(row["model"])
            if _of_answers(report):
                _means(row)
                continue
            if _array(row["counts"]).shape[0] != len(report["papers"]):
                raise ValueError(f"{row['model']} has counts of other papers")
            float(row["macro_f1"][0]), {move: float(value[0]) for move, value in row["f1"].items()}
        str(report["set"])
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        remedy = "write it with: python finetune/eval.py annotate (or ask) --models … -o FILE"
        raise InputError(f"{path}: is no scores file ({error})", remedy) from None
    found: Mapping[str, Any] = report
    return found


def _of_answers(report: Any) -> bool:
    """Whether a report is of ``finetune/eval.py ask``, which has no counts of papers and moves."""
    return isinstance(report, dict) and report.get("task") == "ask"


def _means(row: Mapping[str, Any]) -> dict[str, float]:
    """What was measured of a model's answers, without the intervals."""
    return {name: float(values[0]) for name, values in row["scores"].items() if values is not None}


def _array(counts: Any) -> Counts:
    import numpy as np

    values = np.array(counts, dtype=np.int64)
    if values.ndim != 3 or values.shape[2] != 3:
        raise ValueError("counts are not [papers, moves, 3]")
    return values


def scored(entry: Entry, report: Mapping[str, Any], model: str = "") -> tuple[Entry, str]:
    """The entry with the scores of one model of a report, and the text of its counts file: empty where it has none.

    ``model`` is how the report names it, the entry's own name unless given. Every model of the report keeps its counts,
    so that the candidate can be compared with what is served without writing into that one's folder. Raises UsageError.
    """
    rows = {str(row["model"]): row for row in report["models"]}
    known = model or next((name for name in rows if _same(name, entry.name)), "")
    if known not in rows:
        raise UsageError(f"the scores have no model {model or entry.name}", f"name one with --model: {', '.join(rows)}")
    row = rows[known]
    if _of_answers(report):
        return replace(entry, scores={**entry.scores, report["set"]: _means(row)}), ""
    values = {"macro_f1": row["macro_f1"][0], **{move: value[0] for move, value in row["f1"].items()}}
    kept = {name: other["counts"] for name, other in rows.items()}
    macro = {name: other["macro_f1"][0] for name, other in rows.items()}
    text = {"set": report["set"], "papers": report["papers"], "self": known, "macro_f1": macro, "counts": kept}
    return replace(entry, scores={**entry.scores, report["set"]: values}), json.dumps(text) + "\n"


def _same(one: str, other: str) -> bool:
    try:
        return same_name(one, other)
    except UsageError:  # a path, say
        return False


def held_back_by(candidate: Entry, actives: Iterable[Entry]) -> str:
    """Why a candidate that reaches its own gate may still not replace what is served, as one line; empty when it may."""
    for active in actives:
        pair = _pair(candidate, active)
        if not (decision := promotion(*pair)).allowed:
            return decision.reason
    return ""


def _pair(candidate: Entry, active: Entry) -> tuple[Scored, Scored]:
    """Both on the candidate's gate: from the candidate's own counts where they hold both, else from each one's own."""
    assert candidate.gate is not None
    wanted = candidate.gate.set
    mine, its = _counts(candidate, wanted), _counts(active, wanted)
    score = active.scores.get(wanted, {}).get(candidate.gate.metric)
    first, second = Scored(candidate.name, candidate.score), Scored(active.name, score)
    if candidate.gate.metric != "macro_f1" or mine is None:
        return first, second
    first = replace(first, papers=tuple(mine["papers"]), counts=_array(mine["counts"][mine["self"]]))
    beside = next((name for name in mine["counts"] if name != mine["self"] and _same(name, active.name)), None)
    if beside is not None:
        counts = _array(mine["counts"][beside])
        return first, Scored(active.name, float(mine["macro_f1"][beside]), first.papers, counts)
    if its is not None:
        second = replace(second, papers=tuple(its["papers"]), counts=_array(its["counts"][its["self"]]))
    return first, second


def _counts(entry: Entry, wanted: str) -> Mapping[str, Any] | None:
    """What an entry's counts file holds for a set; None where there is no such file or it is of another set. InputError."""
    path = counts_file(entry)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        found: Mapping[str, Any] | None = values if values["set"] == wanted else None
        if found is not None:
            for counts in found["counts"].values():
                _array(counts)
            found["counts"][found["self"]], found["papers"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: cannot be read ({error})", "score the model again") from None
    return found
