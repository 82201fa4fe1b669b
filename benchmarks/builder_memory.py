"""Peak memory and time of the data-set builder on a million rows, beside pandas on the same files.

    python benchmarks/builder_memory.py [--rows 1000000] [--contract quote] [--folder /tmp]

The rows are synthetic: a tenth gold, the rest agent rows in the layout of /annotate with their sentences, a twentieth of
all other versions of gold papers. Ours is the command that a user types, with a leak check against 80 papers. The peer
reads both files with ``pandas.read_csv``, merges them by id and writes title, abstract and moves as JSON lines: no prompts,
no leaks, no versions, no checks. Peak memory and CPU time are the operating system's figures for each process.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from common import ROOT, report

MOVES = "claim evidence method scope limitation comparison implication novelty".split()
PANDAS = """
import sys, pandas
gold, agent = (pandas.read_csv(path, dtype=str) for path in sys.argv[1:3])
both = pandas.concat([gold, agent]).drop_duplicates("arxiv_id")
both.drop(columns="sentences").to_json(sys.argv[3], orient="records", lines=True)
print(len(both))
"""


class Run(NamedTuple):
    """What one process took: peak resident megabytes, CPU seconds, seconds on the clock."""

    peak_mb: float
    cpu: float
    wall: float


def sentence_pool(rng: random.Random, size: int = 4000) -> list[str]:
    """Sentences of twelve made-up words."""
    words = ["".join(rng.choices("aeiou", k=1) + rng.choices("bdfgklmnprst", k=rng.randint(2, 6))) for _ in range(2500)]
    return [" ".join(rng.choices(words, k=12)).capitalize() + "." for _ in range(size)]


def rows(first: int, count: int, version: int, rng: random.Random, pool: list[str]) -> Iterator[list[str]]:
    """Rows of papers ``first`` and up, five sentences each, with one to eight moves stated."""
    for paper in range(first, first + count):
        sentences = [f"Paper {paper} opens.", *rng.choices(pool, k=4)]
        numbers = [[1], *(rng.sample(range(1, 6), rng.choice((0, 1, 1, 2))) for _ in MOVES[1:])]
        yield [
            f"{2000 + paper // 90000:04d}.{paper % 90000:05d}v{version}",
            f"On the paper of number {paper}",
            " ".join(sentences),
            json.dumps(sentences),
            *(" ".join(sentences[number - 1] for number in stated) for stated in numbers),
            *(";".join(map(str, stated)) for stated in numbers),
        ]


def write(path: Path, *parts: Iterator[list[str]]) -> None:
    """A table in the layout of /annotate."""
    with path.open("w", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(["arxiv_id", "title", "abstract", "sentences", *MOVES, *(f"{move}_sentences" for move in MOVES)])
        for part in parts:
            writer.writerows(part)


def measure(*command: str) -> Run:
    """Run a program to its end. Exits with its last words where it fails."""
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as words:
        process = subprocess.Popen(command, cwd=ROOT, stdout=words, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        words.seek(0)
        if process.returncode:
            raise SystemExit(f"{command[1]} failed: {words.read()[-2000:]}")
    unit = 1e6 if sys.platform == "darwin" else 1e3  # bytes there, kilobytes elsewhere
    return Run(usage.ru_maxrss / unit, usage.ru_utime + usage.ru_stime, time.monotonic() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--contract", default="quote", choices=("quote", "prose", "mark"))
    parser.add_argument("--folder", type=Path, help="where 6 GB of temporary files may stand")
    args = parser.parse_args()

    rng = random.Random(1)
    pool = sentence_pool(rng)
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        gold, agent, held_out, out = (Path(name) / part for part in ("gold.csv", "agent.csv", "held.csv", "out"))
        tenth = args.rows // 10
        repeated = args.rows // 20
        write(gold, rows(0, tenth, 1, rng, pool))
        write(agent, rows(0, repeated, 2, rng, pool), rows(tenth, args.rows - tenth - repeated, 1, rng, pool))
        other = sentence_pool(random.Random(2))  # of the same sentences some papers would rightly leak
        write(held_out, rows(args.rows * 2, 80, 1, rng, other))
        size = (gold.stat().st_size + agent.stat().st_size) / 1e6
        script = "finetune/build_finetune_from_annotations.py"
        files = ["--gold", str(gold), "--agent", str(agent), "--held-out", str(held_out), "--out", str(out)]
        ours = measure(sys.executable, script, *files, "--contract", args.contract)
        card = json.loads((out / "card.json").read_text())
        papers = sum(card["examples"].values())
        if papers != args.rows - repeated:
            raise SystemExit(f"{papers} papers where {args.rows - repeated} are right: {card['dropped']}")
        peer = measure(sys.executable, "-c", PANDAS, str(gold), str(agent), str(Path(name) / "peer.jsonl"))
    table = [
        ["peak memory, MB", f"{ours.peak_mb:.0f}", f"{peer.peak_mb:.0f}", "below 500"],
        ["CPU seconds", f"{ours.cpu:.0f}", f"{peer.cpu:.0f}", ""],
        ["rows a CPU second", f"{args.rows / ours.cpu:,.0f}", f"{args.rows / peer.cpu:,.0f}", "10,000 (aim)"],
        ["seconds on the clock", f"{ours.wall:.0f}", f"{peer.wall:.0f}", ""],
    ]
    result = {
        "rows": args.rows,
        "input_mb": round(size),
        "papers": papers,
        **{f"ours_{key}": round(value, 1) for key, value in ours._asdict().items()},
        **{f"pandas_{key}": round(value, 1) for key, value in peer._asdict().items()},
    }
    title = f"builder, {args.rows:,} rows ({size:,.0f} MB) as {args.contract}"
    report(title, ["", "ours", "pandas read_csv + merge", "promised"], table, result)


if __name__ == "__main__":
    main()
