"""Sheets for people or agents who label abstracts by reading them, with hidden controls that show how well they agree.

    python -m finetune.dataset.label_sheets make ../shared/data/papers/arxiv_abstracts.jsonl.gz --papers 1000 \
        --annotators 5 --gold ../shared/data/gold/moves_train.jsonl \
        --held-out ../shared/data/gold/moves_dev.jsonl --out labelling
    python -m finetune.dataset.label_sheets read labelling --out labelled.jsonl

``make`` draws papers that stand neither in the gold nor in an evaluation set, mixes labelled gold papers in unseen (the
controls), and writes ``sheets/A00.txt`` … (numbered sentences, so many papers each; the letter is the annotator),
``examples.txt`` (other gold papers with their labels) and ``key.jsonl``. An annotator writes ``labels/A00.tsv``, one line a
paper, ``P0123|c:3,2|e:5|m:4|s:6|l:|x:2|i:7|n:3``: a letter a move, then its sentences, best first. ``read`` checks every
line, compares the controls with their gold (F1 over sentences) and writes the other papers as gold rows.
"""

from __future__ import annotations

import argparse
import json
import random
import string
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.dataset.abstracts import read_jsonl
from finetune.dataset.gold_labels import write_gold
from finetune.dataset.leaks import LeakCheck
from harness.arguments import guarded
from harness.errors import InputError
from harness.readers.text import shown
from harness.sentences import split
from skills.annotate.moves import load_framework

Paper = Mapping[str, Any]
Moves = dict[str, list[int]]
_LONGEST = 2400
"""Characters of an abstract; few are longer, and those often hold more than an abstract."""
_SENTENCES = range(3, 16)


def letters(moves: Sequence[str]) -> dict[str, str]:
    """A letter for each move: the first of its name that is free, and x for a name whose letters are taken.

    >>> letters(["claim", "evidence", "limitation", "comparison", "implication"])
    {'claim': 'c', 'evidence': 'e', 'limitation': 'l', 'comparison': 'x', 'implication': 'i'}
    """
    found: dict[str, str] = {}
    for move in moves:
        choices = (letter for letter in (move[0], "x", *move, *string.ascii_lowercase) if letter not in found.values())
        found[move] = next(choices)
    return found


# ---- making ----


def drawn(rows: Iterable[Paper], papers: int, check: LeakCheck, seed: int) -> list[dict[str, Any]]:
    """So many papers of a corpus, at random, each with its sentences; none that ``check`` knows, none twice."""
    pool = list(rows)
    random.Random(seed).shuffle(pool)
    chosen: list[dict[str, Any]] = []
    titles: set[str] = set()
    for row in pool:
        title, abstract = " ".join(str(row.get("title") or "").split()), str(row.get("abstract") or "")
        if len(chosen) == papers:
            break
        if title.casefold() in titles or len(abstract) > _LONGEST or check.reason(row):
            continue
        sentences = [" ".join(sentence.text.split()) for sentence in split(abstract)]
        if len(sentences) in _SENTENCES:
            titles.add(title.casefold())
            identity = str(row.get("arxiv_id") or row.get("id") or "")
            text = {"title": title, "abstract": " ".join(abstract.split()), "sentences": sentences}
            chosen.append({"arxiv_id": identity, **text})
    return chosen


def sheet(papers: Iterable[tuple[str, Paper]]) -> str:
    """The text of (name, paper) pairs as an annotator sees them."""
    blocks = []
    for name, paper in papers:
        lines = [f"[{number}] {' '.join(text.split())}" for number, text in enumerate(paper["sentences"], 1)]
        blocks.append("\n".join([f"## {name}", f"Title: {' '.join(str(paper.get('title') or '').split())}", *lines, ""]))
    return "\n".join(blocks)


def line_of(name: str, moves: Mapping[str, Sequence[int]], letter: Mapping[str, str]) -> str:
    """The line that labels a paper."""
    return "|".join([name, *(f"{letter[move]}:{','.join(map(str, moves.get(move) or ()))}" for move in letter)])


@dataclass(frozen=True)
class Plan:
    """How the papers are dealt out."""

    annotators: int = 1
    controls: int = 20
    """Gold papers among those of each annotator."""
    per_sheet: int = 20
    examples: int = 40
    seed: int = 1


def make(papers: Sequence[Paper], gold: Sequence[Paper], plan: Plan, out: Path, moves: Sequence[str]) -> int:
    """Write the folder of sheets; how many there are. Raises InputError where the gold has too few papers."""
    need = plan.examples + plan.annotators * plan.controls
    if len(gold) < need:
        raise InputError(f"the gold has {len(gold)} papers and {need} are wanted", "lower --controls or --examples")
    rng = random.Random(plan.seed)
    known = rng.sample(list(gold), need)
    examples, controls = known[: plan.examples], known[plan.examples :]
    (out / "sheets").mkdir(parents=True, exist_ok=True)
    (out / "labels").mkdir(exist_ok=True)
    names = (f"P{number:04d}" for number in range(len(papers) + len(controls)))
    key: list[dict[str, Any]] = []
    sheets = 0
    for number in range(plan.annotators):
        part = [(paper, False) for paper in papers[number :: plan.annotators]]
        part += [(paper, True) for paper in controls[number :: plan.annotators]]
        rng.shuffle(part)
        for at in range(0, len(part), plan.per_sheet):
            named = [(next(names), *pair) for pair in part[at : at + plan.per_sheet]]
            path = out / "sheets" / f"{string.ascii_uppercase[number]}{at // plan.per_sheet:02d}.txt"
            path.write_text(sheet((name, paper) for name, paper, _ in named), encoding="utf-8")
            sheets += 1
            key += [{"name": name, "control": known, **paper} for name, paper, known in named]
    write_gold(key, out / "key.jsonl")
    letter = letters(moves)
    solved = (
        sheet([(f"E{n:02d}", paper)]) + f"=> {line_of(f'E{n:02d}', paper['moves'], letter)}\n"
        for n, paper in enumerate(examples)
    )
    (out / "examples.txt").write_text("\n".join(solved), encoding="utf-8")
    return sheets


# ---- reading ----


def parse(line: str, sentences: Mapping[str, int], letter: Mapping[str, str], where: str) -> tuple[str, Moves]:
    """Name and moves of a line; ``sentences`` has how many each paper has. Raises InputError naming file and row."""
    name, *cells = line.strip().split("|")
    if name not in sentences:
        raise InputError(f"{where}: {shown(name)!r} is no paper of these sheets", "correct the name")
    found: dict[str, list[int]] = {}
    for cell in cells:
        mark, colon, numbers = cell.replace(" ", "").partition(":")
        parts = numbers.split(",") if numbers else []
        if not colon or not all(part.isdecimal() for part in parts):
            raise InputError(f"{where}: {shown(cell)!r} is no move with its sentences", "write for example c:3,2")
        found[mark] = [int(part) for part in parts]
        if len(set(parts)) < len(parts) or not all(1 <= number <= sentences[name] for number in found[mark]):
            raise InputError(f"{where}: {shown(cell)!r}: the paper has sentences 1 to {sentences[name]}", "each only once")
    if set(found) != set(letter.values()) or len(cells) != len(letter):
        raise InputError(f"{where}: needs each of {' '.join(letter.values())} once", "an empty list means not stated")
    return name, {move: found[mark] for move, mark in letter.items()}


def labelled(folder: Path, moves: Sequence[str]) -> Iterator[tuple[str, Paper, Moves]]:
    """(annotator, paper of the key, its moves) of every line. Raises InputError for a wrong line, or a paper twice."""
    key = {row["name"]: row for row in read_jsonl(folder / "key.jsonl")}
    sentences = {name: len(row["sentences"]) for name, row in key.items()}
    letter = letters(moves)
    seen: set[str] = set()
    for path in sorted((folder / "labels").glob("*.tsv")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if not line.strip():
                continue
            name, found = parse(line, sentences, letter, f"{path} row {number}")
            if name in seen:
                raise InputError(f"{path} row {number}: {name} has been labelled before", "leave one of the two out")
            seen.add(name)
            yield path.stem[:1], key[name], found


def agreement(pairs: Iterable[tuple[str, Paper, Moves]]) -> dict[str, Any]:
    """F1 over (sentence, move) pairs of controls with their gold: by move, their mean, and by annotator."""
    counts: dict[str, list[int]] = {}
    papers = 0
    for annotator, paper, found in pairs:
        papers += 1
        for move, numbers in found.items():
            gold, ours = set(paper["moves"].get(move) or ()), set(numbers)
            for name in (move, f"annotator {annotator}"):
                both, either = counts.setdefault(name, [0, 0])
                counts[name] = [both + 2 * len(gold & ours), either + len(gold) + len(ours)]
    scores = {name: round(both / either, 3) if either else None for name, (both, either) in counts.items()}
    known = [score for name, score in scores.items() if score is not None and not name.startswith("annotator")]
    return {"controls": papers, "macro_f1": round(sum(known) / len(known), 3) if known else None, **scores}


def read(folder: Path, out: Path, moves: Sequence[str]) -> dict[str, Any]:
    """Write the labelled papers as gold rows; the agreement on controls and the share of papers that state each move."""
    rows = list(labelled(folder, moves))
    new = [(paper, found) for _, paper, found in rows if not paper["control"]]
    fields = ("arxiv_id", "title", "abstract", "sentences")
    write_gold(({**{field: paper[field] for field in fields}, "moves": found} for paper, found in new), out)
    stated = {move: round(sum(bool(found[move]) for _, found in new) / max(1, len(new)), 2) for move in moves}
    return {"papers": len(new), "stated": stated, "agreement": agreement(row for row in rows if row[1]["control"])}


@guarded
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    maker = commands.add_parser("make", help="write sheets of papers with hidden controls")
    maker.add_argument("corpus", type=Path, help="JSONL of papers, may be gzipped")
    maker.add_argument("--gold", type=Path, required=True, help="labelled papers: the controls and the examples")
    maker.add_argument("--held-out", type=Path, action="append", default=[], help="evaluation sets")
    maker.add_argument("--papers", type=int, default=1000)
    for field in ("annotators", "controls", "per_sheet", "examples", "seed"):
        maker.add_argument(f"--{field.replace('_', '-')}", type=int, default=getattr(Plan, field))
    maker.add_argument("--out", type=Path, required=True)
    reader = commands.add_parser("read", help="check the labels, compare the controls, write gold rows")
    reader.add_argument("folder", type=Path)
    reader.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)

    moves = load_framework().names
    if args.command == "read":
        print(json.dumps(read(args.folder, args.out, moves), indent=1))
        return 0
    plan = Plan(args.annotators, args.controls, args.per_sheet, args.examples, args.seed)
    if not 1 <= plan.annotators <= len(string.ascii_uppercase):
        parser.error("--annotators: 1 to 26")
    gold = list(read_jsonl(args.gold))
    check = LeakCheck([*gold, *(row for path in args.held_out for row in read_jsonl(path))])
    papers = drawn(read_jsonl(args.corpus), args.papers, check, plan.seed)
    sheets = make(papers, gold, plan, args.out, moves)
    print(f"{args.out}: {sheets} sheets with {len(papers)} papers", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
