"""The gold papers that a data set kept from training, as gold rows: what thresholds and calibration are fitted to.

    python -m finetune.roads.held_back finetune_output/road/data --gold gold.jsonl --out held_back.jsonl

Only labels by people count: where the validation rows hold curated annotations too, those are left out.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.arguments import Parser, guarded
from harness.errors import InputError


def select(rows: Iterable[Mapping[str, Any]], gold: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The gold papers of which a row of the validation split was made, in gold's order.

    Rows are told by id (``2402.11651``; ``2402.11651#2`` is the second window of a long paper), without an id by prompt.
    """
    from finetune.dataset.inputs import paper_id

    wanted = {paper_id(str(row["id"]).partition("#")[0]) for row in rows if row.get("source") == "gold"}
    return [paper for paper in gold if paper_id(str(paper["id"])) in wanted]


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Exit 0 when the file is written, else the error's own code."""
    parser = Parser(prog="python -m finetune.roads.held_back", description=__doc__)
    parser.add_argument("data", type=Path, help="folder of the data set")
    parser.add_argument("--gold", type=Path, action="append", required=True, metavar="FILE", help="what it was built from")
    parser.add_argument("--abstracts", action="append", default=[], metavar="FILE", help="for labels without abstracts")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    args = parser.parse_args(argv)
    from finetune.evaluation.gold import read_gold
    from finetune.sft.data import read_rows
    from harness.outputs import atomic_write
    from skills.annotate.moves import load_framework

    framework, online = load_framework(), "arxiv" in args.abstracts
    gold = [p for path in args.gold for p in read_gold(path, framework, abstracts=args.abstracts, offline=not online)[0]]
    chosen = select((row for _, row in read_rows(args.data / "valid.jsonl")), gold)
    if not chosen:
        raise InputError(f"{args.data}: keeps no gold paper from training", "raise `valid`, or give more labels")
    with atomic_write(args.out) as handle:
        for paper in chosen:
            handle.write(json.dumps(paper, ensure_ascii=False) + "\n")
    print(f"{args.out}: {len(chosen)} gold papers", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
