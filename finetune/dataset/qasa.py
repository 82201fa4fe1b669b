"""Make training data for /ask from QASA or QASPER, where you have them.

    python finetune/dataset/qasa.py testset_answerable_1554_v1.1.json -o finetune_output/qa/qasa.jsonl
    python finetune/dataset/qasa.py qasa.json qasper-train.json --count 0 --chat finetune_output/qa/train

QASA (Lee et al. 2023) is a JSON file of records under numbers; JSON Lines of the same records is taken too, and so is
QASPER (Dasigi et al. 2021), an object of papers. ``-o`` gets one pair a line with ``text``: "Q: question", and below it
"A: reasoning ##### answer"; ``--chat`` makes the folder that finetune/train.py sft reads, rows of contract ask@1. The
reasoning is the annotators' rationale; ``--reasoning context`` takes the evidence itself, as S1's report does.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":  # run as a file, Python looks for modules beside it, not in the checkout
    sys.path[0] = str(Path(__file__).resolve().parent.parent.parent)

from finetune.dataset.expansion_schema import file_hash
from finetune.dataset.qa_records import read
from finetune.dataset.qa_rows import Pair, chosen, statistics, write_chat, write_text
from harness.arguments import Parser, guarded
from harness.errors import Exit, InputError, UsageError

COUNT = 500
"""Pairs that the specification's report trains on."""


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says."""
    args = _arguments(argv)
    left_out: Counter[str] = Counter()
    pairs = [
        pair
        for path in args.inputs
        for pair in read(path, by_context=args.reasoning == "context", skip_bad=args.skip_bad, left_out=left_out)
        if pair.answered or args.unanswerable
    ]
    pairs = _once(pairs, left_out)
    if not pairs:
        raise InputError("no question with an answer", "give QASA's answerable part, or --unanswerable for the other")
    pairs = chosen(pairs, args.count, args.seed)
    found = statistics(pairs)
    if args.out is not None:
        write_text(args.out, pairs, overwrite=args.yes)
        print(f"{args.out}: {found['pairs']} pairs from {found['papers']} papers")
    if args.chat is not None:
        inputs = [{"file": path.name, "sha256": file_hash(path)} for path in args.inputs]
        card = write_chat(args.chat, pairs, valid=args.valid, seed=args.seed, facts={"statistics": found, "inputs": inputs})
        rows = card["rows"]
        print(f"{args.chat}: {rows['train']} rows for training, {rows['valid']} for validation ({card['contract']})")
        left_out.update(card["dropped"])
    for reason, count in left_out.most_common():
        print(f"  left out: {reason}: {count}", file=sys.stderr)
    return Exit.DONE


def _once(pairs: Sequence[Pair], left_out: Counter[str]) -> list[Pair]:
    """The first pair of each question to a paper."""
    found: dict[tuple[str, str], Pair] = {}
    for pair in pairs:
        found.setdefault((pair.paper, " ".join(pair.question.lower().split())), pair)
    if len(found) < len(pairs):
        left_out["asked twice"] += len(pairs) - len(found)
    return list(found.values())


def _arguments(argv: Sequence[str] | None) -> Namespace:
    parser = Parser(prog="python finetune/dataset/qasa.py", description=__doc__)
    add = parser.add_argument
    add("inputs", nargs="+", type=Path, metavar="FILE", help="QASA or QASPER, as downloaded")
    add("-o", "--out", type=Path, metavar="PATH", help="pairs as .jsonl")
    add("--chat", type=Path, metavar="FOLDER", help="data folder for finetune/train.py sft")
    add("--count", type=int, default=COUNT, metavar="N", help=f"pairs, 0 for all (default {COUNT})")
    add(
        "--reasoning",
        choices=("rationale", "context"),
        default="rationale",
        help="what stands before ##### (default: %(default)s)",
    )
    add("--unanswerable", action="store_true", help="keep questions that their paper does not answer")
    add("--valid", type=float, default=0.1, metavar="SHARE", help="of the papers, for validation (default 0.1)")
    add("--skip-bad", action="store_true", help="leave out records that cannot be read; else the first one is an error")
    add("--seed", type=int, default=42, help="of choice, split and order (default 42)")
    add("--yes", action="store_true", help="overwrite what is there")
    args = parser.parse_args(argv)
    if args.out is None and args.chat is None:
        raise UsageError("nothing to write", "name -o FILE.jsonl, --chat FOLDER, or both")
    if not 0 <= args.valid < 1 or args.count < 0:
        raise UsageError("--valid is a share below 1, and --count a number", "correct it")
    check_places(args)
    return args


def check_places(args: Namespace) -> None:
    """Before any work: what is to be written has a place. Raises UsageError."""
    if args.out is not None and args.out.suffix != ".jsonl":
        raise UsageError(f"{args.out}: pairs are written as .jsonl", "name it so")
    taken = [path for path in (args.out, args.chat and args.chat / "card.json") if path and path.exists()]
    if taken and not args.yes:
        raise UsageError(f"{taken[0]}: exists already", "choose another name, or repeat with --yes to replace it")
    if args.out is not None and any(path.resolve() == args.out.resolve() for path in args.inputs):
        raise UsageError(f"{args.out}: is also an input", "choose another name")


if __name__ == "__main__":
    raise SystemExit(main())
