"""Papers per second of the bundled annotator, end to end, beside a plain loop with the same model in the same runtime.

    python benchmarks/annotate_speed.py [--papers FILE] [--count 445] [--runs 3]

Ours is the command that a user types, as a process of its own with an empty data folder: reading, splitting, marking,
journal, corpus, CSV. "After start-up" is the time that 400 more papers take: 445 papers less 45 papers. The peer is started
and warmed up before its clock runs. The runs alternate, so that a machine that slows down slows both.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from annotate_runs import PlainLoop, Run, count_verbatim, median, run_agent, span
from common import DATA, need, report

from harness.registry import find
from skills.annotate.moves import load_framework

FEW = 45


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--papers", type=Path, default=DATA / "papers" / "agentic_598.csv")
    parser.add_argument("--count", type=int, default=445, help=f"more than {FEW}")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--plain", type=int, default=15, help="papers of the plain loop in each run")
    parser.add_argument("--model", default="nanda-annotator:mini")
    args = parser.parse_args()

    entry = find(args.model)
    if entry is None or entry.gguf_path is None:
        raise SystemExit(f"{args.model}: no GGUF in the registry")
    with need(args.papers).open(newline="", encoding="utf-8") as handle:
        papers = list(csv.DictReader(handle))
    few: list[Run] = []
    many: list[Run] = []
    plain: list[float] = []
    for number in range(args.runs):
        few.append(run_agent(args.papers, FEW, args.model))
        many.append(run_agent(args.papers, args.count, args.model))
        loop = PlainLoop(need(entry.gguf_path), 1024, chat=False)
        start = number * args.plain
        plain.append(loop.rate(papers[start : start + args.plain]))
        loop.close()

    rates = [(args.count - FEW) / (b.seconds - a.seconds) for a, b in zip(few, many, strict=True)]
    whole = [args.count / run.seconds for run in many]
    ratios = [ours / theirs for ours, theirs in zip(rates, plain, strict=True)]
    file_mb = entry.gguf_path.stat().st_size / 1e6
    peak = max(run.peak_mb for run in many)
    found, quoted = count_verbatim(many[-1].rows, load_framework().names)
    failed = sum(row["annotation_status"] != "ok" for row in many[-1].rows)
    rows = [
        ["papers/s after start-up", span(rates), span(plain), "10 or more"],
        ["papers/s, whole process", span(whole), "", ""],
        ["papers/min against the plain loop", f"{span(ratios, 2)}×", "1×", "2.5× or more"],
        ["peak memory beside the file, MB", f"{peak - file_mb:.0f} (file {file_mb:.0f})", "", "under 600"],
        ["quotes that stand in their abstract", f"{found} of {quoted}", "", "all"],
        ["rows, of which failed", f"{len(many[-1].rows)}, {failed}", "", f"{args.count}, 0"],
    ]
    result = {
        "papers_per_second": round(median(rates), 2),
        "papers_per_second_whole_process": round(median(whole), 2),
        "plain_papers_per_second": round(median(plain), 2),
        "ratio": round(median(ratios), 2),
        "peak_mb_beside_file": round(peak - file_mb),
        "quotes": quoted,
        "quotes_verbatim": found,
        "rows": len(many[-1].rows),
        "rows_failed": failed,
        "runs": args.runs,
    }
    title = f"annotate speed, {args.count} papers with {args.model}"
    report(title, ["", "marginalia", "plain loop, 300 tokens", "promised"], rows, result)


if __name__ == "__main__":
    main()
