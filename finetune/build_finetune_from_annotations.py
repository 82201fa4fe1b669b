r"""Gold, curated and agent annotations made one data set of training examples.

    python finetune/build_finetune_from_annotations.py --gold data/gold_labels.csv --abstracts arxiv \
        --agent annotated.csv --curated annotated_curated.csv --held-out ../shared/data/gold/moves_dev.jsonl \
        --contract quote --out finetune_output/dataset

Writes ``train.jsonl``, ``valid.jsonl``, ``card.json`` and, for contract mark, ``labels.json``. Every paper stands in it
once: gold wins over curated, and curated replaces agent rows, so that what the curator did not keep is left out. Files may
be CSV or TSV as /annotate writes it, JSONL of /annotate, gold JSONL, decisions of /annotate --review, or labels without
abstracts. Exit: 0 done, 1 an input cannot be used, 2 wrong usage, 130 interrupted (nothing is written).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

if __package__ in (None, ""):  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from finetune.dataset.builder import Dataset, build_dataset
from finetune.dataset.card import lines
from finetune.dataset.contracts import NAMES, format_annotation_output, format_annotation_prompt
from finetune.dataset.options import Options
from harness.arguments import guarded
from harness.console import clean, prepare_streams, stderr_console

__all__ = ["Dataset", "build_dataset", "format_annotation_output", "format_annotation_prompt", "main"]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--gold", action="append", metavar="FILE", help="labels by people; may be repeated, as the next two")
    made.add_argument("--agent", action="append", metavar="FILE", help="annotations of a model")
    made.add_argument("--curated", action="append", metavar="FILE", help="those that the curator has kept")
    made.add_argument("--out", default="finetune_output/dataset", metavar="FOLDER", help="default: %(default)s")
    made.add_argument("--contract", choices=sorted(NAMES), default=Options.contract, help="default: %(default)s")
    made.add_argument("--held-out", action="append", default=[], metavar="FILE", help="evaluation set that must not leak")
    made.add_argument("--strict", action="store_true", help="a paper of an evaluation set is an error, not left out")
    made.add_argument("--valid", type=float, default=Options.valid, metavar="SHARE", help="default: %(default)s")
    made.add_argument("--seed", type=int, default=Options.seed, help="of the split and of --limit, default: %(default)s")
    made.add_argument("--limit", type=int, metavar="N", help="use only N of the gold papers")
    where = "where labels without abstracts find them; `arxiv` asks arXiv"
    made.add_argument("--abstracts", action="append", default=[], metavar="FILE|arxiv", help=where)
    made.add_argument("--offline", action="store_true", help="never use the network")
    made.add_argument("--skip-bad", action="store_true", help="leave out and count rows that cannot be read")
    made.add_argument("--keep-unfiltered", action="store_true", help="use agent rows that the curator did not keep too")
    made.add_argument("--labels", metavar="FILE", help="for mark: labels.json of the model that will be trained on")
    made.add_argument("--least", type=int, default=Options.least, metavar="N", help="for mark: sentences a label needs")
    made.add_argument("--framework", default=Options.framework, metavar="FILE", help="moves other than the eight")
    made.add_argument("--json", action="store_true", help="print the card as JSON")
    return made


@guarded
def main(argv: list[str] | None = None) -> int:
    """Build the data set that the arguments name; the exit code."""
    prepare_streams()
    given = vars(parser().parse_args(argv))
    as_json, out = given.pop("json"), given.pop("out")
    sources = [given.pop(name) for name in ("gold", "agent", "curated")]
    console = stderr_console()
    dataset = build_dataset(*sources, out=out, console=console, **given)
    if as_json:
        print(json.dumps(dataset.card, ensure_ascii=False))
    for line in lines(dataset.card):
        print(clean(line), file=sys.stderr)
    print(clean(f"written to {dataset.folder}"), file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
