"""What the checks of written answers see and what they cry wolf at (skills/ask/verify.py), without any model.

    python benchmarks/ask_checks.py [--every 4]

Support: the conclusions of PubMedQA's authors, sentence by sentence, against their own abstract and the most similar of a
hundred others. The thresholds of ``support.py`` were chosen on the even rows; the odd ones are reported here. Corruption:
sentences of the abstracts as answers that quote themselves, as they are and with one digit changed, a negation added or
dropped, or a direction turned. Quotes: every sentence of the PDFs as a model copies it (one line, plain ligatures, quotes
and dashes, hyphens at line ends joined), and the same with one digit changed.
"""

from __future__ import annotations

import argparse
import random
import re
from collections.abc import Callable, Iterator
from typing import Any

from common import DATA, need, read_jsonl, report

from harness.errors import InputError
from harness.search.chunks import chunks_of
from harness.search.pdf_process import PdfReader
from harness.sentences import split
from skills.ask.prompt import Claim, plain
from skills.ask.quotes import says_something
from skills.ask.record import Passage
from skills.ask.support import ALONE, SUPPORTED, UNSUPPORTED, Evidence
from skills.ask.terms import Stemmer
from skills.ask.verify import Verifier, cite

OTHERS = 100
SHORTEST = 30
TURNS = (("increase", "decrease"), ("higher", "lower"), ("more", "less"), ("positive", "negative"), ("better", "worse"))
PLAIN = {
    "’": "'",
    "‘": "'",
    "“": '"',
    "”": '"',
    "–": "-",
    "−": "-",
    "ﬁ": "fi",
    "ﬂ": "fl",
    "ﬀ": "ff",
    "ﬃ": "ffi",
    "ﬄ": "ffl",
}


def passage(row: dict[str, Any], number: int) -> Passage:
    """An abstract without its conclusion."""
    text = "\n".join(row["contexts"])
    spans = tuple((one.start, one.end, 0) for one in split(text))
    return Passage(number, row["id"], "", 0, "", "", text, spans, 0.0)


def support(rows: list[dict[str, Any]], every: int) -> dict[str, list[float]]:
    """The support of each conclusion's sentences by their own abstract and by the most similar other one."""
    stemmer = Stemmer()
    stems = [set(stemmer.stems(" ".join([row["question"], *row["contexts"]]))) for row in rows]
    found: dict[str, list[float]] = {"own": [], "other": []}
    for at in range(1, len(rows), 2 * every):
        others = [(at + 1 + k * 3) % len(rows) for k in range(OTHERS)]
        near = max(
            (one for one in others if one != at), key=lambda one: len(stems[at] & stems[one]) / len(stems[one]) ** 0.5
        )
        background = [passage(rows[one], number) for number, one in enumerate(others[:6], 3)]
        evidence = Evidence([passage(rows[at], 1), passage(rows[near], 2), *background], stemmer)
        for one in split(rows[at]["long_answer"]):
            if len(one.text) >= SHORTEST:
                found["own"].append(evidence.containment(one.text, {1}))
                found["other"].append(evidence.containment(one.text, {2}))
    return found


def another_digit(text: str, dice: random.Random) -> str | None:
    """The text with one digit changed."""
    places = [match.start() for match in re.finditer(r"[0-9]", text)]
    if not places:
        return None
    at = dice.choice(places)
    return text[:at] + dice.choice([digit for digit in "0123456789" if digit != text[at]]) + text[at + 1 :]


def negated(text: str, dice: random.Random) -> str | None:
    """The text without its ``not``, or with one after its first auxiliary."""
    if re.search(r"\b(?:not|no)\b", text):
        return re.sub(r"\bnot |\bno ", "", text, count=1)
    match = re.search(r"\b(?:was|were|is|are|did|does|has|have|can)\b(?! not)", text)
    return f"{text[: match.end()]} not{text[match.end() :]}" if match else None


def direction(text: str, dice: random.Random) -> str | None:
    """The text with its first word of direction turned."""
    for one, other in (*TURNS, *(pair[::-1] for pair in TURNS)):
        if match := re.search(rf"\b{one}(d|s)?\b", text):
            return f"{text[: match.start()]}{other}{match[1] or ''}{text[match.end() :]}"
    return None


CORRUPTIONS: dict[str, Callable[[str, random.Random], str | None]] = {
    "as it is": lambda text, dice: text,
    "another digit": another_digit,
    "negation": negated,
    "direction": direction,
}


def corrupted(rows: list[dict[str, Any]], every: int, dice: random.Random) -> dict[str, list[bool]]:
    """Whether each kind of corrupted sentence is seen to be wrong."""
    seen: dict[str, list[bool]] = {name: [] for name in CORRUPTIONS}
    for row in rows[:: 2 * every]:
        verifier = Verifier([passage(row, 1)])
        one = dice.choice(split("\n".join(row["contexts"]))).text
        for name, change in CORRUPTIONS.items():
            if len(one) >= SHORTEST and (text := change(one, dice)) is not None:
                seen[name].append(verifier.check_claim(Claim(text, ((1, one),))).wrong)
    return seen


def pdf_sentences(every: int) -> Iterator[tuple[str, Passage]]:
    """Sentences of the PDFs as a model would copy them, with the passage they are from."""
    with PdfReader() as reader:
        for path in sorted(need(DATA / "pdf").glob("*.pdf")):
            try:
                document, _ = reader.read(path)
            except InputError:
                continue
            chunks = [chunk for chunk in chunks_of(document) if not chunk.references]
            for chunk in chunks[::every]:
                there = Passage(1, path.name, "", chunk.page, "", "", chunk.text, chunk.sentences, 0.0)
                for start, end, _ in chunk.sentences:
                    text = re.sub(r"(?<=\w)-\s+(?=[a-z])", "", plain(chunk.text[start:end]))
                    yield "".join(PLAIN.get(letter, letter) for letter in text), there


def letters(text: str) -> str:
    """Letters and digits alone: a changed digit may make words that do stand elsewhere (``Table 2``)."""
    return re.sub(r"[\W_]", "", text).casefold()


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=4, metavar="N", help="take every N-th of what there is (default 4)")
    args = parser.parse_args()
    dice, rows = random.Random(1), read_jsonl(DATA / "qa" / "pubmedqa.jsonl")
    table: list[tuple[str, ...]] = []
    found = support(rows, args.every)
    for name, threshold in (("no support below", UNSUPPORTED), ("alone", ALONE), ("support from", SUPPORTED)):
        shares = [sum(value >= threshold for value in found[side]) / len(found[side]) for side in ("own", "other")]
        table.append((f"{name} {threshold}", f"{shares[0]:.1%} own", f"{shares[1]:.1%} other", str(len(found["own"]))))
    seen = corrupted(rows, args.every, dice)
    table += [(name, f"{sum(flags) / max(1, len(flags)):.1%} wrong", "", str(len(flags))) for name, flags in seen.items()]
    counts = {"found": 0, "sentences": 0, "changed": 0, "changed found": 0}
    for text, there in pdf_sentences(args.every):
        if not says_something(text):
            continue
        counts["sentences"] += 1
        counts["found"] += cite(text, there) is not None
        changed = another_digit(text, dice)
        if changed is not None and letters(changed) not in letters(there.text):
            counts["changed"] += 1
            counts["changed found"] += cite(changed, there) is not None
    table.append(("quotes of PDFs", f"{counts['found'] / counts['sentences']:.1%} found", "", str(counts["sentences"])))
    table.append(("with another digit", f"{counts['changed found']} found", "", str(counts["changed"])))
    shown = {name: [sum(flags), len(flags)] for name, flags in seen.items()} | {"quotes": counts}
    report("ask_checks", ("check", "measured", "", "n"), table, shown)


if __name__ == "__main__":
    main()
