"""Score expansion data with the rewards that training and evaluation use.

    python finetune/dataset/score_data.py clean.jsonl --worst 10

One line a source: mean of QMD's percentage, share that is excellent (80 and more), its dimensions, and the strict reward
with the data itself as background. ``--adversaries`` adds what the strict reward gives to outputs that deserve nothing.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # run as a file, Python looks for modules beside it, not in the checkout
    sys.path[0] = str(Path(__file__).resolve().parent.parent.parent)

from finetune.dataset.expansion_cli import CLEAN, command, takes_inputs
from finetune.dataset.expansion_schema import Example, load_examples
from finetune.rewards.adversaries import Gold
from finetune.rewards.background import Background
from finetune.rewards.guard import face_adversaries
from finetune.rewards.qmd import score
from finetune.rewards.strict import StrictReward
from harness.arguments import guarded
from harness.errors import Exit, UsageError

DIMENSIONS = ("format", "diversity", "hyde", "quality", "entity", "think")
ALL = "all"


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says."""
    parser = command("score_data.py", __doc__)
    takes_inputs(parser, CLEAN)
    parser.add_argument("--worst", type=int, default=0, metavar="N", help="show the N examples of the least strict reward")
    parser.add_argument("--adversaries", action="store_true", help="show what adversaries get")
    parser.add_argument("--seed", type=int, default=0, help="of the adversaries (default 0)")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    args = parser.parse_args(argv)
    if args.worst < 0:
        raise UsageError(f"--worst {args.worst} is too few", "give 0 or more")
    examples = load_examples(args.inputs)
    reward = StrictReward(background_of(examples))
    rows = [scored(example, reward) for example in examples]
    groups = by_source(rows)
    worst = sorted(rows, key=lambda row: (row["strict"], row["percentage"], row["query"]))[: args.worst]
    faced = (
        face_adversaries(reward, [gold_of(example) for example in examples], seed=args.seed) if args.adversaries else None
    )
    if args.json:
        adversaries = {name: spread._asdict() for name, spread in faced.adversaries.items()} if faced else {}
        print(json.dumps({"groups": groups, "worst": worst, "adversaries": adversaries}, ensure_ascii=False))
        return Exit.DONE
    print(table(groups))
    for row in worst:
        why = "; ".join(row["reasons"][:2]) or "no deduction"
        print(f"{row['strict']:.3f}  {row['percentage']:5.1f}%  {row['query']}  ({why})")
    if faced:
        print(f"\nstrict reward\n{faced.table()}")
    return Exit.DONE


def gold_of(example: Example) -> Gold:
    """An example as rewards and adversaries take it."""
    return Gold(example.full_query, example.output)


def background_of(examples: Sequence[Example]) -> Background:
    """The background that these examples are."""
    return Background.fit((example.full_query, example.output) for example in examples)


def scored(example: Example, reward: StrictReward) -> dict[str, Any]:
    """The scores of one example."""
    found = score(example.full_query, example.text)
    return {
        "query": example.full_query,
        "source": example.source or "-",
        **dict(zip(DIMENSIONS, found.points, strict=True)),
        "percentage": found.percentage,
        "strict": reward(example.full_query, example.text),
        "reasons": list(found.reasons),
    }


def by_source(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over the rows of each source, those of all rows last."""
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["source"]].append(row)
    return [_means(name, some) for name, some in [*sorted(groups.items()), (ALL, list(rows))]]


def _means(name: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    count = len(rows)
    means = {key: round(sum(row[key] for row in rows) / count, 3) for key in ("percentage", *DIMENSIONS, "strict")}
    excellent = sum(row["percentage"] >= 80 for row in rows) / count
    return {"source": name, "examples": count, "excellent": round(excellent, 3), **means}


def table(groups: Sequence[dict[str, Any]]) -> str:
    """The means for people."""
    width = max(len(group["source"]) for group in groups)
    lines = [f"{'source':{width}}  examples  mean %  80+ %  " + "  ".join(f"{name:>9}" for name in (*DIMENSIONS, "strict"))]
    for group in groups:
        values = "  ".join(f"{group[name]:9.2f}" for name in (*DIMENSIONS, "strict"))
        head = (
            f"{group['source']:{width}}  {group['examples']:8}  {group['percentage']:6.1f}  {100 * group['excellent']:5.1f}"
        )
        lines.append(f"{head}  {values}")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
