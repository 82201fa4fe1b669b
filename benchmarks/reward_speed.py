"""Our scoring of expansions beside a straightforward implementation of the same rubric.

    python benchmarks/reward_speed.py [--data FILE] [--runs 5] [--rows 1500] [--completions 4]

Both score the same expansions, and the run fails where any number differs. ``one a query`` scores each row of the data with
its own query, as evaluation does. ``4 a query`` adds completions as a policy samples them (lines left out, cut, shuffled,
swapped for the query), scored one after the other, as GRPO does. Where MARGINALIA_QMD names a checkout of
github.com/tobi/qmd, upstream's own code is timed as well. Times are of the process, least of the runs.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from common import DATA, read_jsonl, report

from finetune.rewards import qmd, qmd_text
from finetune.rewards import qmd_words as rules

Scorer = Callable[[str, str], float]
Pair = tuple[str, str]


# ---- the rubric, one rule after the other as SCORING.md tells them ----

Why = list[str]
"""Reasons, one a deduction."""


def plain_reward(query: str, output: str) -> float:
    """The reward by ``plain_score``."""
    return float(plain_score(query, output)["reward"])


def plain_score(query: str, output: str) -> dict[str, Any]:
    """The points of an output by a function a rule, with reasons; nothing is kept from one output to the next."""
    text = output.replace("<|im_end|>", "").strip()
    thought = "<think>" in text and "</think>" in text
    if thought:
        text = re.sub(r"<think>.*?</think>", "", text, flags=re.DOTALL).strip()
    if any(token in text for token in rules.CHAT_TOKENS):
        return {"reward": 0.0, "why": ["leaks the chat template"]}
    lines: dict[str, list[str]] = {kind: [] for kind in rules.TYPES}
    for line in text.split("\n"):
        kind, colon, body = line.strip().partition(":")
        if line.strip() and (not colon or kind not in lines):
            return {"reward": 0.0, "why": [f"a line of no type: {line[:50]}"]}
        if line.strip():
            lines[kind].append(body.strip())
    why: Why = []
    only = re.search(r"\s+/only:(lex|vec|hyde)\s*$", query, re.IGNORECASE)
    if only:
        points = plain_only(query[: only.start()].strip(), lines, only[1].lower(), why)
        if not points:
            return {"reward": 0.0, "why": [f"no {only[1]} line"]}
        most = 120
    else:
        points = {
            "format": plain_format(lines, why),
            "diversity": plain_diversity(query, lines, why),
            "hyde": plain_hyde(lines["hyde"], why),
            "quality": plain_quality(query, lines, why),
            "entity": plain_entity(query, lines, why),
        }
        most = 140 if lines["hyde"] else 120
    points["think"] = 0 if thought else 20
    share = sum(points.values()) / most
    return {**points, "most": most, "why": why, "percentage": 100 * share, "reward": max(0.0, min(1.0, share))}


def plain_format(lines: dict[str, list[str]], why: Why) -> int:
    points = 10
    for kind in ("lex", "vec"):
        if lines[kind]:
            points += 10
        else:
            why.append(f"no {kind} line")
    return points


def plain_diversity(query: str, lines: dict[str, list[str]], why: Why) -> int:
    points = 10 if lines["lex"] and lines["vec"] else 0
    points += 5 if len(lines["lex"]) + len(lines["vec"]) >= 2 else 0
    for kind in ("lex", "vec"):
        alike = [a for a, b in combinations(lines[kind], 2) if not plain_diverse(a, b, query)]
        why += [f"{kind} lines alike: {line}" for line in alike]
        points += max(0, 5 - 2 * len(alike))
    echo = 5
    for kind, cost in (("lex", 10), ("vec", 3)):
        for line in lines[kind]:
            if plain_echo(line, query):
                echo -= cost
                why.append(f"{kind} echoes the query: {line}")
    return points + max(-10, echo)


def plain_diverse(a: str, b: str, query: str) -> bool:
    a, b = a.lower(), b.lower()
    if a in b or b in a:
        return False
    return len(set(a.split()) ^ set(b.split())) >= (3 if len(query.split()) >= 5 else 2)


def plain_echo(line: str, query: str) -> bool:
    line, query = line.lower().strip(), query.lower().strip()
    return line == query or (query in line and len(line) < len(query) + 10)


def plain_hyde(passages: list[str], why: Why) -> int:
    if not passages:
        return 0
    length = len(passages[0])
    if not 50 <= length <= 200:
        why.append(f"passage of {length} characters")
    points = 10 + (5 if 50 <= length <= 200 else 2 if length < 50 else 0)
    penalty = 0
    for word, count in Counter(re.findall(r"\b\w+\b", passages[0].lower())).items():
        if count >= 3 and word not in rules.REPEATABLE and len(word) > 2:
            penalty += (count - 2) * 2
            why.append(f"repeats {word}")
    return points + max(0, 5 - penalty)


def plain_quality(query: str, lines: dict[str, list[str]], why: Why) -> int:
    lex, vec, points = lines["lex"], lines["vec"], 5
    if lex and vec:
        if sum(len(line) for line in lex) / len(lex) <= sum(len(line) for line in vec) / len(vec):
            points += 5
        else:
            why.append("lex longer than vec")
    if vec:
        points += 5 if all(plain_natural(line) for line in vec) else 2
    if lex:
        with_terms = [line for line in lex if plain_has_terms(line, query)]
        points += 5 if len(with_terms) == len(lex) else 2 if with_terms else 0
        if not with_terms:
            why.append("no lex line has a key term")
        padded = [line for line in lex if plain_padded(line, query)]
        points -= 3 * len(padded)
        why += [f"padding: {line}" for line in padded]
        if len(query.split()) >= 2 and any('"' in line for line in lex):
            points += 3
    return points


def plain_natural(line: str) -> bool:
    return " " in line and len(line) > 15


def plain_has_terms(line: str, query: str) -> bool:
    terms = set(query.lower().split()) - rules.NO_KEY_TERM
    return not terms or bool(terms & set(line.lower().split()))


def plain_padded(line: str, query: str) -> bool:
    own = query.lower().split()
    return any(word in rules.FILLER and word not in own for word in line.lower().split())


def plain_entity(query: str, lines: dict[str, list[str]], why: Why) -> int:
    entities = plain_entities(query)
    lex, vec = lines["lex"], lines["vec"]
    if not entities:
        return 10
    if not lex:
        return 0
    naming = [line for line in lex if plain_names(line, entities)]
    points = 15 if len(naming) == len(lex) else 5 if naming else -30
    if not naming:
        why.append(f"no lex line names {sorted(entities)}")
    written = " ".join(lex + vec).lower()
    lost = [entity for entity in entities if entity not in written]
    why += [f"lost {entity}" for entity in lost]
    generic = [line for line in lex if plain_generic(line)]
    why += [f"generic: {line}" for line in generic]
    points -= 20 * len(lost) + 15 * len(generic)
    return points + (5 if any(plain_names(line, entities) for line in vec) else 0)


def plain_names(line: str, entities: set[str]) -> bool:
    return any(entity in line.lower() for entity in entities)


def plain_entities(query: str) -> set[str]:
    entities, previous = set(), False
    for position, word in enumerate(query.split()):
        word = word.strip(".,!?:;()[]\"'")
        lower, base = word.lower(), False
        if word.isupper() and len(word) >= 2:
            base = True
        elif word and word[0].isupper() and lower not in rules.NO_KEY_TERM:
            base = position > 0 or lower not in rules.QUERY_VERBS
        elif len(word) >= 2 and (any(sign in word for sign in ".+-#@") or plain_camel(word)):
            base = True
        elif word and previous and lower not in rules.NO_KEY_TERM:
            entities.add(lower)
        if base:
            entities.add(lower)
        previous = base
    return entities


def plain_camel(word: str) -> bool:
    return word[0].isupper() and any(letter.isupper() for letter in word[1:])


def plain_generic(line: str) -> bool:
    line = line.lower().strip()
    for words in rules.GENERIC_PHRASES:
        if " ".join(words) in line or line.startswith(words[0]):
            rest = line
            for word in words:
                rest = rest.replace(word, "", 1).strip()
            if len(rest) < 3:
                return True
    return False


def plain_only(query: str, lines: dict[str, list[str]], kind: str, why: Why) -> dict[str, int]:
    """The points of an ``/only`` output without those for thinking; none where the type is missing."""
    items = lines[kind]
    if not items:
        return {}
    unwanted = sum(len(texts) for other, texts in lines.items() if other != kind)
    if unwanted:
        why.append(f"{unwanted} lines of types not asked for")
    alike = [a for a, b in combinations(items, 2) if not plain_diverse(a, b, query)]
    echoes = [line for line in items if plain_echo(line, query)]
    why += [f"alike: {line}" for line in alike] + [f"echoes the query: {line}" for line in echoes]
    diversity = 15 if len(items) == 1 else 15 + max(0, 15 - 5 * len(alike))
    quality = 10
    if kind == "lex":
        quality += 5 if all(plain_has_terms(line, query) for line in items) else 0
        quality += 5 if not any(plain_generic(line) for line in items) else 0
        quality -= 3 * sum(1 for line in items if plain_padded(line, query))
    elif kind == "vec":
        quality += 10 if all(plain_natural(line) for line in items) else 5
    else:
        quality += 10 if 50 <= len(items[0]) <= 200 else 5 if 30 <= len(items[0]) <= 300 else 0
    entities = plain_entities(query)
    naming = [line for line in items if plain_names(line, entities)]
    if entities and not naming:
        why.append(f"no line names {sorted(entities)}")
    return {
        "format": max(0, 30 - 10 * unwanted),
        "diversity": max(0, diversity - 5 * len(echoes)),
        "hyde": 0,
        "quality": quality,
        "entity": 10 if not entities else 20 if len(naming) == len(items) else 15 if naming else 0,
    }


# ---- what is scored ----


def sampled(rows: Sequence[Pair], count: int, dice: random.Random) -> Iterator[Pair]:
    """``count`` completions of each row, as a policy that is no longer bad samples them."""
    for query, text in rows:
        lines = text.split("\n")
        yield query, text
        for _ in range(count - 1):
            some = [line for line in lines if dice.random() < 0.85] or lines
            if dice.random() < 0.3:
                dice.shuffle(some)
            if dice.random() < 0.1:
                some[-1] = f"lex: {query}"
            if dice.random() < 0.05:
                some[-1] = some[-1][: dice.randrange(len(some[-1]))]
            yield query, "\n".join(some)


def fresh(scorer: Scorer) -> Callable[[Sequence[Pair]], list[float]]:
    """The rewards of many pairs, with nothing remembered from an earlier run."""

    def run(pairs: Sequence[Pair]) -> list[float]:
        qmd_text.read_query.cache_clear()
        return [scorer(query, text) for query, text in pairs]

    return run


def upstream(folder: str) -> Scorer | None:
    """``score_expansion`` of a checkout of github.com/tobi/qmd, None without one."""
    path = Path(folder) / "finetune" / "reward.py"
    if not folder or not path.exists():
        return None
    spec = importlib.util.spec_from_file_location("upstream_reward", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    scorer: Scorer = module.score_expansion
    return scorer


def check_equal(name: str, work: Sequence[Pair], found: Sequence[float], expected: Sequence[float]) -> None:
    """Leave with the first output whose rewards differ."""
    for (query, text), ours, theirs in zip(work, found, expected, strict=True):
        if ours != theirs:
            raise SystemExit(f"{name} gives {ours} instead of {theirs} for {query!r}:\n{text}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA / "expansion" / "qmd.jsonl")
    parser.add_argument("--rows", type=int, default=1500, help="rows of the data, spread over the file")
    parser.add_argument("--completions", type=int, default=4, help="completions of one query in a row, as GRPO scores them")
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()

    rows = read_jsonl(args.data)
    rows = rows[:: max(1, len(rows) // args.rows)]
    pairs = [(row["query"], "\n".join(f"{kind}: {text}" for kind, text in row["output"])) for row in rows]
    loads = {"one a query": pairs, f"{args.completions} a query": list(sampled(pairs, args.completions, random.Random(0)))}
    scorers: dict[str, Scorer] = {"ours": qmd.score_expansion, "straightforward": plain_reward}
    if theirs := upstream(os.environ.get("MARGINALIA_QMD", "")):
        scorers["upstream"] = theirs
    table, result = [], {}
    for load, work in loads.items():
        seconds = {name: float("inf") for name in scorers}
        expected: list[float] = []
        for _ in range(args.runs):
            for name, scorer in scorers.items():  # in turns, so that a slow moment of the machine hits all of them
                started = time.process_time()
                found = fresh(scorer)(work)
                seconds[name] = min(seconds[name], time.process_time() - started)
                expected = expected or found
                check_equal(name, work, found, expected)
        speed = {name: len(work) / value for name, value in seconds.items()}
        row = [f"{speed[name]:,.0f}" for name in scorers]
        table.append(
            [load, len(work), *row, *(f"{speed['ours'] / speed[name]:.2f}x" for name in scorers if name != "ours")]
        )
        result[load] = {name: round(value) for name, value in speed.items()}
    header = ["expansions/s", "expansions", *scorers, *(f"over {name}" for name in scorers if name != "ours")]
    report("reward speed, equal rewards", header, table, {"rows": len(pairs), **result})


if __name__ == "__main__":
    main()
