"""What expansion data looks like: tables, a picture, and what should be done about it.

    python finetune/dataset/analyze_data.py clean.jsonl --plot data.svg

Queries by length, category and source, lines by type with their lengths, templates, repeated queries and those of one stem.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # run as a file, Python looks for modules beside it, not in the checkout
    sys.path[0] = str(Path(__file__).resolve().parent.parent.parent)

from finetune.dataset.expansion_clean import skeleton, templates
from finetune.dataset.expansion_cli import CLEAN, command, percent, takes_inputs
from finetune.dataset.expansion_schema import Example, load_examples
from finetune.rewards.qmd_text import Kind
from harness.arguments import guarded
from harness.errors import Exit, UsageError
from harness.outputs import atomic_write
from skills.expand.words import named_entities

KINDS: tuple[Kind, ...] = ("hyde", "lex", "vec")
LENGTHS = (("1-2 words", 1, 2), ("3-5 words", 3, 5), ("6-9 words", 6, 9), ("10 and more", 10, 10**6))
SHORT_SHARE, TEMPLATE_SHARE = 0.15, 0.02
"""Share of short queries that training wants, and of template lines that it can take."""
QUANTILES = (0.0, 0.1, 0.5, 0.9, 1.0)


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says."""
    parser = command("analyze_data.py", __doc__)
    takes_inputs(parser, CLEAN)
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write a picture as .svg")
    parser.add_argument("--yes", action="store_true", help="overwrite the picture")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    args = parser.parse_args(argv)
    if args.plot and args.plot.suffix.lower() != ".svg":
        raise UsageError(f"{args.plot}: the plot is an SVG", "name it something.svg")
    found = analyse(load_examples(args.inputs))
    if args.plot:
        with atomic_write(args.plot, overwrite=args.yes) as handle:
            handle.write(draw(found))
    print(json.dumps(found, ensure_ascii=False) if args.json else report(found))
    return Exit.DONE


def analyse(examples: Sequence[Example]) -> dict[str, Any]:
    """All counts."""
    words = [len(example.bare_query.split()) for example in examples]
    known = templates(examples)
    stems = Counter(example.stem for example in examples)
    queries = Counter(example.full_query.casefold() for example in examples)
    lines = {}
    for kind in KINDS:
        texts = [(example, text) for example in examples for text in example.texts(kind)]
        sizes = sorted(len(text) for _, text in texts)
        lines[kind] = {
            "lines": len(texts),
            "examples": sum(bool(example.texts(kind)) for example in examples),
            "templates": sum(skeleton(example, text) in known[kind] for example, text in texts),
            "characters": {f"{share:.0%}": sizes[round((len(sizes) - 1) * share)] for share in QUANTILES} if sizes else {},
        }
    return {
        "examples": len(examples),
        "query_length": {name: sum(least <= count <= most for count in words) for name, least, most in LENGTHS},
        "with_names": sum(bool(named_entities(example.bare_query)) for example in examples),
        "with_intent": sum(bool(example.intent) for example in examples),
        "asked": {kind: sum(example.asked == kind for example in examples) for kind in KINDS},
        "repeated_queries": sum(count - 1 for count in queries.values()),
        "stems": len(stems),
        "largest_stem": stems.most_common(1)[0][1],
        "lines": lines,
        "category": dict(Counter(example.category or "-" for example in examples).most_common()),
        "source": dict(Counter(example.source or "-" for example in examples).most_common()),
    }


def advice(found: Mapping[str, Any]) -> list[str]:
    """What should be done, as sentences."""
    said = []
    if found["repeated_queries"]:
        said.append(f"{found['repeated_queries']} queries stand more than once: clean_data.py keeps the first of each")
    lines, padded = (sum(kind[key] for kind in found["lines"].values()) for key in ("lines", "templates"))
    if padded > TEMPLATE_SHARE * lines:
        said.append(f"{percent(padded, lines)} of the lines are templates: clean_data.py takes them out")
    if found["query_length"][LENGTHS[0][0]] < SHORT_SHARE * found["examples"]:
        said.append("few queries of one or two words: prepare_data.py --short makes more of the longer ones")
    if found["stems"] < found["examples"]:
        rest = found["examples"] - found["stems"]
        said.append(f"{rest} examples ask what another one asks: a split must keep them together (prepare_data.py does)")
    return said


def report(found: Mapping[str, Any]) -> str:
    """The tables for people."""
    total = found["examples"]
    parts = [f"{total} examples, {found['stems']} different questions, {found['repeated_queries']} repeated queries"]
    parts.append(f"{found['with_names']} with names, {found['with_intent']} with an intent")
    for title in ("query_length", "asked", "source", "category"):
        parts.append(f"\n{title.replace('_', ' ')}")
        parts += [f"  {name:34}{count:7}  {percent(count, total):>6}" for name, count in found[title].items()]
    parts.append("\nlines   examples   lines  templates  characters " + " ".join(f"{share:>5.0%}" for share in QUANTILES))
    for kind, one in found["lines"].items():
        sizes = " ".join(f"{size:5}" for size in one["characters"].values())
        parts.append(f"{kind:8}{one['examples']:8}{one['lines']:8}{one['templates']:11}  {'':10} {sizes}")
    parts += [f"\n{sentence}" for sentence in advice(found)]
    return "\n".join(parts)


def draw(found: Mapping[str, Any]) -> str:
    """The picture: queries by length, source and category, and templates by type."""
    from finetune.evaluation.svg import bars, page

    panels = [
        bars(title.replace("_", " "), [(name, count, 0) for name, count in found[title].items()], "examples")
        for title in ("query_length", "source", "category")
    ]
    kinds = found["lines"].items()
    rows = [(f"{kind}: {name}", float(one[key]), colour) for kind, one in kinds for colour, (name, key) in enumerate(_BARS)]
    return page([*panels, bars("lines", rows, "lines")], f"{found['examples']} expansions")


_BARS = (("all", "lines"), ("templates", "templates"))

if __name__ == "__main__":
    raise SystemExit(main())
