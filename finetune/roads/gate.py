"""The registry's gate at the end of a road: scores into the candidate's entry, and promotion if it passes.

    python -m finetune.roads.gate nanda-annotator:mine --scores scores.json --promote --out gate.json

What the registry asks is in ``harness/registry_gate.py``: the entry's own minimum, and not worse than what is served beyond
noise. Here one thing more is asked, because the same run has measured it: above the linear baseline. Being held back is a
result, not an error: exit 0, and ``gate.json`` says why.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from finetune.evaluation.baseline import LINEAR
from harness.arguments import Parser, guarded
from harness.errors import InputError
from harness.registry import Entry, find, promote, score

METRIC = "macro_f1"


def row_for(report: Mapping[str, Any], entry: Entry) -> Mapping[str, Any]:
    """The scores of an entry's GGUF: by its hash, whatever the file was called. Raises InputError where it has none."""
    digest = f"sha256:{entry.gguf.sha256}" if entry.gguf else ""
    rows: Sequence[Mapping[str, Any]] = report["models"]
    found = next((row for row in rows if row["digest"] and row["digest"] == digest), None)
    if found is None:
        raise InputError(f"{entry.name}: its GGUF was not scored", "add it to --models of finetune/eval.py annotate")
    return found


def below_linear(report: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    """Why a model does not earn its place beside the linear baseline; empty where it does, or that was not scored."""
    linear = next((other for other in report["models"] if other["model"] == LINEAR), None)
    if linear is None or row[METRIC][0] > linear[METRIC][0]:
        return ""
    return f"{METRIC} {row[METRIC][0]:.4f} is not above the {LINEAR}'s {linear[METRIC][0]:.4f}"


def decide(name: str, scores: Path, *, serve: bool) -> dict[str, Any]:
    """Write the scores into the entry and promote it where it passes; the verdict. Raises InputError, UsageError."""
    from harness.registry_gate import read_report

    entry = find(name)
    if entry is None:
        raise InputError(f"the registry has no candidate {name}", "export it: python -m finetune.export --help")
    report = read_report(scores)
    row = row_for(report, entry)
    entry = score(entry.name, scores, str(row["model"]))
    held_back = below_linear(report, row)
    if serve and not held_back:
        try:
            entry = promote(entry.name).active
        except InputError as error:  # the gate's refusal
            held_back = error.message
    return {"model": entry.name, "set": report["set"], METRIC: row[METRIC], "status": entry.status, "held_back": held_back}


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Exit 0 when the verdict is written, whatever it is."""
    parser = Parser(prog="python -m finetune.roads.gate", description=__doc__)
    parser.add_argument("name", help="the candidate in the registry")
    parser.add_argument("--scores", type=Path, required=True, metavar="FILE", help="of finetune/eval.py annotate -o")
    parser.add_argument("--promote", action="store_true", help="serve it if it passes")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the verdict as JSON")
    args = parser.parse_args(argv)
    from harness.outputs import atomic_write

    verdict = decide(args.name, args.scores, serve=args.promote)
    with atomic_write(args.out) as handle:
        handle.write(json.dumps(verdict, indent=1, ensure_ascii=False) + "\n")
    print(f"{verdict['model']} is {verdict['status']}: {METRIC} {verdict[METRIC][0]:.4f}", file=sys.stderr)
    if verdict["held_back"]:
        print(f"held back: {verdict['held_back']}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
