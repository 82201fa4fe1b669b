"""What the cloud scripts of /expand share: queries, prompts, scores, a table. By itself it scores a file of expansions.

    python finetune/jobs/eval_common.py expansions.jsonl

A line of the file has "query" and "output" ([[type, text], …]) or "text" (what a model wrote).
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from finetune.jobs.files import text_of
from finetune.rewards.qmd_score import score
from finetune.rewards.qmd_words import EXCELLENT
from skills.expand.prompt import END, HEAD, INSTRUCTION, TAIL, parse_query, render_prompt

DEPENDENCIES = ()
FILES = ("finetune/evals/queries.txt",)

DIMENSIONS = ("format", "diversity", "hyde", "quality", "entity", "think")
Row = dict[str, Any]


def our_queries() -> list[tuple[str, str]]:
    """Category and text of the queries in finetune/evals/queries.txt."""
    found, category = [], ""
    for line in text_of(FILES[0]).splitlines():
        if heading := re.fullmatch(r"#\s*category:\s*(.+)", line.strip()):
            category = heading[1].strip()
        elif line.strip() and not line.startswith("#"):
            found.append((category, line.strip()))
    return found


def prompt_of(query: str) -> str:
    """The whole prompt of contract expand@1 for what a user typed."""
    return render_prompt(parse_query(query))


def trained(row: Row) -> dict[str, str]:
    """Prompt and completion, as a model sees them, of a row that prepare_data.py wrote."""
    asked = row["prompt"][-1]["content"]
    if not asked.startswith(INSTRUCTION):
        raise SystemExit(f"error: {asked[:60]!r} is no prompt of contract expand@1: prepare the data with prepare_data.py")
    return {"prompt": HEAD + asked.removeprefix(INSTRUCTION) + TAIL, "completion": row["completion"] + END}


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a JSONL file."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip():
            try:
                yield json.loads(line)
            except ValueError:
                raise SystemExit(f"error: {path} line {number}: is no JSON") from None


def scored(query: str, text: str, category: str = "") -> Row:
    """The points of one expansion by the published rubric."""
    found = score(query, text)
    return {
        "query": query,
        "category": category,
        "text": text,
        "percentage": round(found.percentage, 1),
        "rating": found.rating,
        **dict(zip(DIMENSIONS, found.points, strict=True)),
        "reasons": list(found.reasons),
    }


def table(rows: Sequence[Row]) -> str:
    """Mean and count of excellent ones by category, then of all."""
    lines = [f"{'category':16}{'queries':>8}{'mean %':>8}{'80+':>6}"]
    names = [name for name in dict.fromkeys(row["category"] for row in rows) if name]
    for name in (*names, ""):
        some = [row for row in rows if not name or row["category"] == name]
        mean = sum(row["percentage"] for row in some) / len(some)
        excellent = sum(row["percentage"] >= EXCELLENT for row in some)
        lines.append(f"{name or 'all':16}{len(some):8}{mean:8.1f}{excellent:6}")
    return "\n".join(lines)


def text_in(row: Row) -> str:
    """The expansion of a row of a file."""
    return str(row["text"]) if "text" in row else "\n".join(f"{kind}: {text}" for kind, text in row["output"])


def report(rows: Iterable[Row], out: Path | None, *, verbose: bool = False) -> list[Row]:
    """Print the table, with ``verbose`` every query; write all as JSON where ``out`` is given."""
    found = list(rows)
    if not found:
        raise SystemExit("error: there is nothing to score")
    print(table(found))
    for row in found if verbose else ():
        print(f"\n{row['percentage']:5.1f}%  {row['query']}\n{row['text']}\n  " + "\n  ".join(row["reasons"]))
    if out:
        out.write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Score a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, nargs="?", help="JSONL of expansions")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="write all as JSON")
    parser.add_argument("-v", "--verbose", action="store_true", help="show every query")
    parser.add_argument("--dry-run", action="store_true", help="show the queries and a prompt, and stop")
    args = parser.parse_args(argv)
    if args.dry_run or args.file is None:
        queries = our_queries()
        print(json.dumps({"queries": len(queries), "prompt": prompt_of(queries[0][1])}))
        return 0 if args.dry_run else 2
    report((scored(row["query"], text_in(row)) for row in read_rows(args.file)), args.out, verbose=args.verbose)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
