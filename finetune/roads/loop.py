"""The loop's own steps: choose abstracts, have the new model annotate them, say whether learning from them helped.

    python -m finetune.roads.loop pick abstracts.jsonl.gz --not-in gold.jsonl --count 2400 --out unlabelled.csv
    python -m finetune.roads.loop annotate unlabelled.csv --model 'export/*q4_K_M.gguf' --home out/loop --out annotated.csv
    python -m finetune.roads.loop helped first/scores.json second/scores.json --out helped.json

Between the last two stand the curator and a second lap of the road (``annotator.py``).
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.arguments import Parser, guarded
from harness.errors import Exit, InputError, UsageError

COLUMNS = ("id", "title", "abstract")
SENTENCES = (4, 14)
LONGEST = 2200
"""Characters. An abstract of ordinary size is what labels are made of."""


def choose(
    rows: Iterable[Mapping[str, Any]], known: Iterable[Mapping[str, Any]], count: int, seed: int
) -> list[dict[str, str]]:
    """``count`` abstracts of ordinary size that are no known paper, drawn by the seed. Raises InputError for too few."""
    from finetune.dataset.leaks import LeakCheck
    from harness.sentences import split

    check = LeakCheck(known)
    order = list(rows)
    random.Random(seed).shuffle(order)
    chosen: list[dict[str, str]] = []
    for row in order:
        abstract = str(row.get("abstract") or "")
        if len(abstract) > LONGEST or not SENTENCES[0] <= len(split(abstract)) <= SENTENCES[1] or check.reason(row):
            continue
        identity = str(row.get("arxiv_id") or row.get("id") or f"picked-{len(chosen) + 1}")
        chosen.append({"id": identity, "title": str(row.get("title") or ""), "abstract": abstract})
        if len(chosen) == count:
            return chosen
    raise InputError(f"only {len(chosen)} abstracts of ordinary size are unlabelled", f"ask for no more than {len(chosen)}")


def pick(args: argparse.Namespace) -> int:
    """``loop pick``."""
    from finetune.dataset.abstracts import read_jsonl
    from finetune.evaluation.gold import read_gold
    from harness.outputs import atomic_write
    from skills.annotate.moves import load_framework

    framework = load_framework()
    known = [paper for path in args.not_in for paper in read_gold(path, framework)[0]]
    rows = read_jsonl(args.source) if ".jsonl" in args.source.name else _table(args.source)
    chosen = choose(rows, known, args.count, args.seed)
    with atomic_write(args.out) as handle:
        writer = csv.DictWriter(handle, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(chosen)
    return Exit.DONE


def _table(path: Path) -> list[dict[str, str]]:
    from harness.readers import open_papers

    papers = open_papers(str(path), offline=True).papers
    return [{"id": p.id, "title": p.title, "abstract": p.abstract} for p in papers if not p.error]


def annotate(args: argparse.Namespace) -> int:
    """``loop annotate``: as /annotate, but nothing enters the corpus, which holds what people read."""
    from finetune.evaluation.models import expand, open_model
    from harness.config import load_settings
    from harness.console import stderr_console
    from harness.context import Context
    from harness.models.base import Options
    from harness.outputs import write_records
    from harness.readers import open_papers
    from skills.annotate.annotator import make_annotator
    from skills.annotate.batch import annotate_all
    from skills.annotate.moves import load_framework

    (spec,) = expand([args.model])
    source = open_papers(str(args.source), offline=True)
    papers, settings, framework = list(source.papers), load_settings({"offline": True}), load_framework()
    opened = open_model(spec, settings)
    context = Context(settings, stderr_console(), args.home, _nothing, _nothing)
    try:
        annotator = make_annotator(opened.model, framework, prose=False, serving=opened.serving, options=Options())
        batch = annotate_all(
            papers, annotator, opened.model, framework, context, style="quote", salt=[dict(opened.serving)]
        )
    finally:
        opened.model.close()
    rows = [paper.row for paper in papers]
    write_records(args.out, batch.records, moves=framework.names, rows=rows, fieldnames=source.fieldnames)
    return Exit.FAILED if batch.failed or batch.partial else Exit.DONE


def _nothing(*args: object, **options: object) -> Any:
    raise UsageError("a step of the road opens no other model or skill")


def own_row(scores: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """A report, and its row of what is served: the last of the lap's own forms. Raises InputError."""
    from finetune.hf_checkpoint import read_json

    found = read_json(scores)
    here = scores.resolve().parent
    rows = [row for row in found.get("models", []) if Path(row["model"]).resolve().is_relative_to(here)]
    if not rows:
        raise InputError(f"{scores}: has no scores of a model below {here}", "run the step evaluate again")
    return found, rows[-1]


def helped(args: argparse.Namespace) -> int:
    """``loop helped``: the paired difference of the second model to the first."""
    import numpy as np

    from finetune.evaluation import counts
    from harness.outputs import atomic_write

    (report, first), (_, second) = own_row(args.first), own_row(args.second)
    tables = [np.array(row["counts"], dtype=np.int64) for row in (second, first)]
    found = counts.difference(*tables, rounds=report["rounds"], seed=report["seed"])
    verdict = counts.verdict(found)
    result = {
        "first": {"model": first["model"], "macro_f1": first["macro_f1"]},
        "second": {"model": second["model"], "macro_f1": second["macro_f1"]},
        "difference": found.rounded(),
        "verdict": verdict,
    }
    with atomic_write(args.out) as handle:
        handle.write(json.dumps(result, indent=1) + "\n")
    print(
        f"gold alone {first['macro_f1'][0]:.3f}, gold and curated {second['macro_f1'][0]:.3f}: "
        f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}], {verdict}",
        file=sys.stderr,
    )
    return Exit.DONE


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Exit 0 done, 1 in part or an error, 2 wrong usage, 130 interrupted."""
    parser = Parser(prog="python -m finetune.roads.loop", description=__doc__)
    verbs = parser.add_subparsers(required=True, parser_class=Parser, metavar="VERB")
    picks = verbs.add_parser("pick", help="choose unlabelled abstracts")
    picks.set_defaults(run=pick)
    picks.add_argument("source", type=Path)
    picks.add_argument("--not-in", type=Path, action="append", default=[], metavar="FILE", help="labels, evaluation sets")
    picks.add_argument("--count", type=int, required=True, metavar="N")
    picks.add_argument("--seed", type=int, default=1)
    annotates = verbs.add_parser("annotate", help="annotate them")
    annotates.set_defaults(run=annotate)
    annotates.add_argument("source", type=Path)
    annotates.add_argument("--model", required=True, metavar="GGUF", help="a file, a pattern, or a name")
    annotates.add_argument("--home", type=Path, required=True, metavar="FOLDER", help="where the journal lies")
    compares = verbs.add_parser("helped", help="compare two laps")
    compares.set_defaults(run=helped)
    compares.add_argument("first", type=Path)
    compares.add_argument("second", type=Path)
    for verb in (picks, annotates, compares):
        verb.add_argument("--out", type=Path, required=True, metavar="FILE")
    args = parser.parse_args(argv)
    return int(args.run(args))


if __name__ == "__main__":
    raise SystemExit(main())
