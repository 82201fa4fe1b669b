"""Make the data folder that ``finetune/train.py sft`` and ``grpo`` read from clean expansions.

    python finetune/dataset/prepare_data.py clean.jsonl -o finetune_output/expansion/train --held-out eval_queries.jsonl

Each row has the prompt of contract expand@1, as serving renders it, and the lines. Questions that are the same but for
word order, endings or /only stay on one side of the split; those of held-out sets (.txt: a query a line, .jsonl: with
``query``) go. Training gets short queries made of longer ones (``--short``). The folder has train.jsonl, valid.jsonl and
card.json.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # run as a file, Python looks for modules beside it, not in the checkout
    sys.path[0] = str(Path(__file__).resolve().parent.parent.parent)

from finetune.dataset.expansion_cli import CLEAN, TRAINING, command, gives_output, percent, takes_inputs
from finetune.dataset.expansion_schema import Example, file_hash, load_examples, stem_of
from finetune.dataset.expansion_split import CONTRACT, SHORT, Split, row, shortened, split
from harness.arguments import guarded
from harness.errors import Exit, InputError, UsageError
from harness.outputs import atomic_write


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says."""
    parser = command("prepare_data.py", __doc__)
    takes_inputs(parser, CLEAN)
    gives_output(parser, TRAINING, "the data folder")
    add = parser.add_argument
    add("--valid", type=float, default=0.1, metavar="SHARE", help="of the questions, for validation (default 0.1)")
    add("--held-out", type=Path, action="append", default=[], metavar="FILE", help="an evaluation set; may be repeated")
    add(
        "--short",
        type=float,
        default=0.15,
        metavar="SHARE",
        help="of one or two words among training queries; 0 makes none",
    )
    add("--no-intent", action="store_true", help="leave intents out of the prompts")
    add("--seed", type=int, default=42, help="of split and order (default 42)")
    args = parser.parse_args(argv)
    for name in ("valid", "short"):
        if not 0 <= getattr(args, name) < 1:
            raise UsageError(f"--{name} {getattr(args, name)}: not a share", "give 0 or more and less than 1")
    if (args.out / "card.json").exists() and not args.yes:
        raise UsageError(f"{args.out}: is a data folder already", "choose another name, or repeat with --yes to replace it")
    away = {stem for path in args.held_out for stem in held_out_stems(path)}
    found = split(load_examples(args.inputs), away, valid=args.valid, seed=args.seed)
    if not found.train or (args.valid and not found.valid):
        raise InputError("a side of the split is empty", "give more examples, or another --valid")
    taken = away | {example.stem for example in found.valid}
    made = shortened(found.train, taken, share=args.short, seed=args.seed)
    # At places that the seed decides, not in a block at the end.
    train = split([*found.train, *made], (), valid=0.0, seed=args.seed).train
    card = card_of(args, found, train, len(made))
    write(args.out, train, found.valid, card, intent=not args.no_intent)
    print(report(args.out, card))
    return Exit.DONE


def held_out_stems(path: Path) -> set[str]:
    """The stems of an evaluation set's queries. Raises InputError where it is none."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{path}: cannot be read", "correct --held-out") from None
    stems = set()
    for number, line in enumerate(lines, 1):
        if not line.strip() or (path.suffix != ".jsonl" and line.startswith("#")):
            continue
        query: Any = line.strip()
        if path.suffix == ".jsonl":
            try:
                query = json.loads(line)["query"]
            except (ValueError, KeyError, TypeError):
                query = None
        if not isinstance(query, str) or not query.strip():
            raise InputError(f"{path}: line {number} has no query", 'give {"query": …} a line, or text with one a line')
        stems.add(stem_of(query))
    return stems


def card_of(args: Any, found: Split, train: Sequence[Example], made: int) -> dict[str, Any]:
    """What the folder holds, where it comes from, and what was left out."""
    return {
        "contract": CONTRACT,
        "task": "expand",
        "rows": {"train": len(train), "valid": len(found.valid)},
        "questions": {"train": _stems(train), "valid": _stems(found.valid)},
        "shortened": made,
        "short_share": round(sum(len(one.bare_query.split()) <= SHORT for one in train) / len(train), 4),
        "dropped": dict(found.dropped.most_common()),
        "sources": dict(sorted(Counter(one.source or "-" for one in (*train, *found.valid)).items())),
        "asked": dict(sorted(Counter(one.asked or "all" for one in (*train, *found.valid)).items())),
        "completion_characters": _longest(train),
        "inputs": [{"file": path.name, "sha256": file_hash(path)} for path in args.inputs],
        "held_out": [{"file": path.name, "sha256": file_hash(path)} for path in args.held_out],
        "options": {"valid": args.valid, "short": args.short, "intent": not args.no_intent, "seed": args.seed},
    }


def _stems(examples: Iterable[Example]) -> int:
    return len({example.stem for example in examples})


def _longest(examples: Sequence[Example]) -> dict[str, int]:
    sizes = sorted(len(example.text) for example in examples)
    return {f"{share:.0%}": sizes[round((len(sizes) - 1) * share)] for share in (0.5, 0.95, 1.0)}


def write(folder: Path, train: Sequence[Example], valid: Sequence[Example], card: dict[str, Any], *, intent: bool) -> None:
    """Write the rows, then the card, which says that the folder is whole. Raises InputError."""
    (folder / "card.json").unlink(missing_ok=True)
    for name, examples in (("train", train), ("valid", valid)):
        with atomic_write(folder / f"{name}.jsonl") as handle:
            handle.writelines(json.dumps(row(one, intent=intent), ensure_ascii=False) + "\n" for one in examples)
    with atomic_write(folder / "card.json") as handle:
        handle.write(json.dumps(card, ensure_ascii=False, indent=1) + "\n")


def report(folder: Path, card: dict[str, Any]) -> str:
    """What was made, for people."""
    rows = card["rows"]
    lines = [f"{folder}: {rows['train']} rows for training, {rows['valid']} for validation ({card['contract']})"]
    lines.append(f"  {card['shortened']} short queries made; {percent(card['short_share'], 1)} of training is short")
    lines += [f"  left out: {reason}: {count}" for reason, count in card["dropped"].items()]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
