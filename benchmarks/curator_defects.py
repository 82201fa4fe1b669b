"""How well the curator's deterministic mode tells good annotations from spoilt ones, over eleven kinds of defect.

    python benchmarks/curator_defects.py [--pairs 60] [--half report] [--seed 1]

Every pair is one gold annotation and the same annotation with one defect, made by ``curator_rows.py``. The papers of
``--half report`` were seen by no check: rules and thresholds were chosen, and the cue weights fitted, on the other half
(split by the hash of the id). Rows carry no style, as in a CSV, so that no check may lean on their being called quotes.
A good row counts once however many pairs it is in. Intervals are Wilson's, 95%.

The third style is free prose about the sample papers. The checks were tuned on its good rows, so that only the spoilt
ones say something.
"""

from __future__ import annotations

import argparse
import csv
import math
import random
import tomllib
from collections import Counter
from collections.abc import Sequence
from typing import Any

from common import DATA, ROOT, read_jsonl, report
from curator_rows import DEFECTS, Texts, prose_row, quote_row

from curation.annotation import Annotation
from curation.checks import findings, version
from curation.fit_cues import in_design
from curation.personas import load_panel
from curation.votes import by_checks, is_kept
from harness.sentences import split

THRESHOLD, QUORUM = 3, 3
STYLES = ("quote", "prose", "free")
_Z = 1.959964


def wilson(hits: int, count: int) -> tuple[float, float]:
    """95% interval of a share (Wilson 1927)."""
    if not count:
        return 0.0, 1.0
    share, z = hits / count, _Z
    middle = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, (middle - spread) / (1 + z * z / count)), min(1.0, (middle + spread) / (1 + z * z / count))


def shown(hits: int, count: int) -> str:
    """``57/60 0.950 (0.863-0.983)``."""
    low, high = wilson(hits, count)
    return f"{hits}/{count} {hits / max(1, count):.3f} ({low:.3f}-{high:.3f})"


def kept(paper: dict[str, Any], texts: Texts) -> bool:
    """The verdict of deterministic mode at the default quorum and threshold."""
    found = findings(Annotation(paper["abstract"], paper["title"], texts))
    votes = [by_checks(persona, found) for persona in load_panel().personas]
    return is_kept(votes, threshold=THRESHOLD, quorum=QUORUM)


def gold_papers(half: str, style: str, dice: random.Random) -> list[dict[str, Any]]:
    """The gold papers of a half with their good rows, in random order."""
    papers = [p for p in read_jsonl(DATA / "gold/moves_train.jsonl") if in_design(p) == (half == "design")]
    dice.shuffle(papers)
    for paper in papers:
        paper |= {"id": paper["arxiv_id"], "style": style}
        paper["row"] = quote_row(paper) if style == "quote" else prose_row(paper, dice)
    return papers


def sample_papers() -> list[dict[str, Any]]:
    """The sample papers with their free prose; only claim and novelty may trade places without harm."""
    prose = tomllib.loads((ROOT / "benchmarks" / "curator_prose.toml").read_text(encoding="utf-8"))
    rows = {name: texts for group in prose.values() for name, texts in group.items()}
    papers = []
    with (ROOT / "data" / "sample_papers.csv").open(newline="", encoding="utf-8") as handle:
        for paper in csv.DictReader(handle):
            if texts := rows.get(paper["id"]):
                moves = {move: [1 if move == "novelty" else number] for number, move in enumerate(texts, 1)}
                sentences = [sentence.text for sentence in split(paper["abstract"])]
                papers.append({**paper, "style": "free", "group": "", "row": texts, "moves": moves, "sentences": sentences})
    return papers


def measure(
    papers: Sequence[dict[str, Any]], pairs: int, dice: random.Random
) -> tuple[dict[str, tuple[int, int]], tuple[int, int], tuple[int, int]]:
    """For each kind (rejected, spoilt rows); then (kept, good rows), and the same for rows that state a limitation."""
    found: dict[str, tuple[int, int]] = {}
    good: dict[str, bool] = {}
    stated: set[str] = set()
    for kind, spoil in DEFECTS.items():
        rejected = count = 0
        for paper in dice.sample(papers, len(papers)):
            if count == pairs:
                break
            texts = spoil(dict(paper["row"]), paper, dice, papers)
            if texts is None:
                continue
            count += 1
            rejected += not kept(paper, texts)
            if paper["id"] not in good:
                good[paper["id"]] = kept(paper, paper["row"])
                if "limitation" in paper["row"]:
                    stated.add(paper["id"])
        found[kind] = (rejected, count)
    return found, (sum(good.values()), len(good)), (sum(good[name] for name in stated), len(stated))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=60, metavar="N", help="pairs of each kind and style (60)")
    parser.add_argument("--half", choices=("report", "design"), default="report")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    rejected: dict[str, dict[str, tuple[int, int]]] = {}
    good: dict[str, tuple[int, int]] = {}
    limited: dict[str, tuple[int, int]] = {}
    for style in STYLES:
        dice = random.Random(f"{args.seed} {style}")
        papers = sample_papers() if style == "free" else gold_papers(args.half, style, dice)
        rejected[style], good[style], limited[style] = measure(papers, args.pairs, dice)

    totals = {style: tuple(map(sum, zip(*rejected[style].values(), strict=True))) for style in STYLES}
    rows = [[f"rejected: {kind}", *(shown(*rejected[style][kind]) for style in STYLES)] for kind in DEFECTS]
    rows.append(["rejected: all kinds", *(shown(*totals[style]) for style in STYLES)])
    rows.append(["kept: good rows", *(shown(*good[style]) for style in STYLES)])
    rows.append(["kept: those with a limitation", *(shown(*limited[style]) for style in STYLES)])
    both = [style for style in STYLES if style != "free"]
    overall = Counter({"rejected": 0, "spoilt": 0, "kept": 0, "good": 0})
    for style in both:
        overall += Counter(
            {"rejected": totals[style][0], "spoilt": totals[style][1], "kept": good[style][0], "good": good[style][1]}
        )
    result = {
        "half": args.half,
        "seed": args.seed,
        "checks": version(),
        "pairs": overall["spoilt"],
        "rejected": round(overall["rejected"] / overall["spoilt"], 4),
        "rejected_interval": [round(v, 4) for v in wilson(overall["rejected"], overall["spoilt"])],
        "kept": round(overall["kept"] / overall["good"], 4),
        "kept_interval": [round(v, 4) for v in wilson(overall["kept"], overall["good"])],
        "by_style": {s: {kind: list(pair) for kind, pair in rejected[s].items()} | {"good": list(good[s])} for s in STYLES},
    }
    report(f"curator, deterministic mode, {args.half} half", ["", *STYLES], rows, result)


if __name__ == "__main__":
    main()
