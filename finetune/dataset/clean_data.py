"""Take bad lines and bad examples out of expansion data, and say what was taken and why.

    python finetune/dataset/clean_data.py raw.jsonl -o clean.jsonl

Template lines (the same for several queries but for the query), misread technical terms, lost names, wrong lengths, lines
that say nothing new, repeated queries; doubled words are corrected. Nothing is invented: an example that lacks a type
afterwards goes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":  # run as a file, Python looks for modules beside it, not in the checkout
    sys.path[0] = str(Path(__file__).resolve().parent.parent.parent)

from finetune.dataset.expansion_clean import REPEATS, Cleaned, clean
from finetune.dataset.expansion_cli import (
    CLEAN,
    GENERATED,
    check_out,
    command,
    gives_output,
    percent,
    takes_inputs,
)
from finetune.dataset.expansion_schema import load_examples, write_examples
from harness.arguments import guarded
from harness.errors import Exit, InputError, UsageError


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says."""
    parser = command("clean_data.py", __doc__)
    takes_inputs(parser, GENERATED)
    gives_output(parser, CLEAN, "the cleaned examples")
    parser.add_argument(
        "--repeats", type=int, default=REPEATS, metavar="N", help=f"queries that make a template ({REPEATS})"
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    args = parser.parse_args(argv)
    if args.repeats < 2:
        raise UsageError(f"--repeats {args.repeats}: a line of one query is no template", "give 2 or more")
    check_out(args)
    found = clean(load_examples(args.inputs), repeats=args.repeats)
    if not found.kept:
        raise InputError("no example is left", "look at the input, or raise --repeats")
    write_examples(args.out, found.kept, overwrite=args.yes)
    print(json.dumps(record(found)) if args.json else report(found))
    return Exit.DONE


def record(found: Cleaned) -> dict[str, object]:
    """The report for machines."""
    return {
        "examples": found.seen.total(),
        "kept": len(found.kept),
        "dropped": dict(found.dropped.most_common()),
        "lines": dict(found.lines.most_common()),
        "kept_by_source": dict(sorted(found.kept_by_source.items())),
    }


def report(found: Cleaned) -> str:
    """The report for people."""
    total = found.seen.total()
    lines = [f"{len(found.kept)} of {total} examples kept ({percent(len(found.kept), total)})"]
    lines += [f"  left out: {reason}: {count}" for reason, count in found.dropped.most_common()]
    lines += [f"  lines: {reason}: {count}" for reason, count in found.lines.most_common()]
    kept = found.kept_by_source
    lines += [f"  {source}: {kept[source]} of {count}" for source, count in sorted(found.seen.items())]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
