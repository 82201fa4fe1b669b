"""More training rows for a small model of expansion, which must learn to copy a query's words and has seen few of them.

    python finetune/dataset/expansion_augment.py finetune_output/qmd/data -o finetune_output/qmd/augmented \\
        --abstracts ../shared/data/papers/arxiv_abstracts.jsonl.gz --count 16000 \\
        --held-out ../shared/data/expansion/judged_queries_dev.jsonl

Takes the data folder of ``prepare_data.py`` and writes another with the same validation rows. Its training rows are those
of the folder several times (``--repeats``), the same with words of the query swapped for others all through the row
(``--swaps``: a name that no one has seen can only be copied), and rows made of abstracts (``--count``,
``expansion_abstracts.py``). Passages are cut at the end of a sentence to the length that QMD's rubric asks for.
"""

from __future__ import annotations

import json
import random
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # run as a file, Python looks for modules beside it, not in the checkout
    sys.path[0] = str(Path(__file__).resolve().parent.parent.parent)

from finetune.dataset.abstracts import read_jsonl
from finetune.dataset.expansion_abstracts import PASSAGE, SOURCE, Paper, make, papers_of
from finetune.dataset.expansion_cli import FOLDER, command
from finetune.dataset.expansion_schema import Example, file_hash, stem_of
from finetune.dataset.expansion_split import chance
from finetune.dataset.prepare_data import held_out_stems, write
from finetune.hf_checkpoint import read_json
from finetune.rewards.qmd_text import Kind
from finetune.rewards.words import FUNCTION_WORDS
from harness import sentences
from harness.arguments import guarded
from harness.errors import Exit, InputError, UsageError
from skills.expand.expansion import TYPES, parse_expansion, parse_lex

SWAPPED = "swapped"
_INTENT = "\nQuery intent: "
_WORD = re.compile(r"[^\W\d_][\w-]*")
_ONSETS = "b br c ch cl d dr f fl g gr h j k kl l m n p pl qu r s sh sk st t tr v w z".split()
_VOWELS = "a e i o u ai ea io ou".split()
_ENDS = ["", "", "n", "r", "l", "x", "th", "sk", "nd", "m"]


def invented(dice: random.Random) -> str:
    """A word that there is not: two or three syllables.

    >>> invented(random.Random(3)).isalpha()
    True
    """
    parts = (dice.choice(_ONSETS) + dice.choice(_VOWELS) + dice.choice(_ENDS) for _ in range(dice.choice((2, 2, 3))))
    return "".join(parts)


def new_name(dice: random.Random, names: Sequence[str]) -> str:
    """A name: one of ``names``, an invented one, with a number, or an acronym."""
    pick = dice.random()
    if names and pick < 0.5:
        return dice.choice(names)
    if pick < 0.7:
        return invented(dice).capitalize()
    if pick < 0.85:
        return f"{invented(dice).capitalize()}-{dice.randint(1, 40)}"
    return "".join(dice.choice("ABCDEFGHIKLMNOPRSTUVW") for _ in range(dice.randint(3, 5)))


def copied_words(example: Example) -> list[str]:
    """Words of the query, as written, that at least one lex line (any line, where there is no lex) says again."""
    lines = example.texts("lex") or [text for _, text in example.output]
    said = {word.casefold() for text in lines for word in _WORD.findall(text)}
    words = dict.fromkeys(_WORD.findall(example.bare_query))
    return [w for w in words if len(w) > 2 and w.casefold() in said and w.casefold() not in FUNCTION_WORDS]


def swapped(example: Example, names: Sequence[str], words: Sequence[str], dice: random.Random) -> Example | None:
    """The example with one or two words of its query swapped all through it; None where no line copies one.

    A capitalised word gives way to a name, another one to a word of ``words`` or an invented one.
    """
    candidates = copied_words(example)
    if not candidates:
        return None
    texts = [example.bare_query, *(text for _, text in example.output)]
    for old in dice.sample(candidates, min(len(candidates), dice.choice((1, 1, 2)))):
        if old[0].isupper():
            new = new_name(dice, names)
        else:
            new = dice.choice(words) if words and dice.random() < 0.6 else invented(dice)
        pattern = re.compile(rf"(?<![\w-]){re.escape(old)}(s?)(?![\w-])", re.IGNORECASE)
        texts = [_replaced(pattern, new, text) for text in texts]
    query = f"{texts[0]} /only:{example.asked}" if example.asked else texts[0]
    output = tuple((kind, text) for (kind, _), text in zip(example.output, texts[1:], strict=True))
    try:
        return Example(query=query, output=output, source=SWAPPED, intent=example.intent)
    except ValueError:  # longer than a line may be
        return None


def _replaced(pattern: re.Pattern[str], new: str, text: str) -> str:
    return pattern.sub(lambda match: _cased(match[0], new) + match[1], text)


def _cased(old: str, new: str) -> str:
    """``new`` capitalised as ``old`` is, where it is a plain word."""
    return new[0].upper() + new[1:] if old[0].isupper() and new.islower() else new


def trimmed(example: Example) -> Example:
    """The example with its passage cut to as many whole sentences as fit the length that the rubric asks for."""
    output: list[tuple[Kind, str]] = []
    for kind, text in example.output:
        if kind == "hyde" and len(text) > PASSAGE[1]:
            kept = ""
            for part in sentences.split(text):
                if len(text[: part.end]) > PASSAGE[1]:
                    break
                kept = text[: part.end]
            text = kept if len(kept) >= PASSAGE[0] else text
        output.append((kind, text))
    return example.model_copy(update={"output": tuple(output)})


def quoted(example: Example, dice: random.Random, share: float) -> Example:
    """With a chance of ``share``: two words that stand side by side in the query and in a lex line, as a phrase there.

    Only the first such line gets one, so that the others still find what the phrase would miss.
    """
    if dice.random() >= share or any('"' in text for text in example.texts("lex")):
        return example
    words = example.bare_query.split()
    pairs = [f"{a} {b}" for a, b in pairwise(words) if not {a.casefold(), b.casefold()} & FUNCTION_WORDS]
    output = list(example.output)
    for place, (kind, text) in enumerate(output):
        for pair in pairs:
            found = re.search(rf"(?<![\w-]){re.escape(pair)}(?![\w-])", text, re.IGNORECASE)
            if kind == "lex" and found and parse_lex(text).words and text != found[0]:
                output[place] = (kind, text.replace(found[0], f'"{found[0]}"', 1))
                return example.model_copy(update={"output": tuple(output)})
    return example


def only(example: Example, kind: Kind) -> Example | None:
    """The same question for lines of one type; None where it has none of them."""
    output = tuple(line for line in example.output if line[0] == kind)
    if example.asked or not output:
        return None
    return Example(query=f"{example.bare_query} /only:{kind}", output=output, source=example.source, intent=example.intent)


def read_folder(path: Path) -> list[Example]:
    """The rows of ``prepare_data.py`` as examples again. Raises InputError naming the line."""
    found = []
    for number, values in enumerate(read_jsonl(path), 1):
        try:
            content = values["prompt"][0]["content"]
            lines, malformed = parse_expansion(values["completion"])
            intent = content.partition(_INTENT)[2] or None
            if malformed:
                raise ValueError("a line is none")
            output: Any = tuple((line.type, line.text) for line in lines)
            found.append(Example(query=values["query"], output=output, source=values["source"], intent=intent))
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise InputError(f"{path}:{number}: no row of prepare_data.py ({error})", "prepare the folder again") from None
    return found


def mixed(examples: Sequence[Example], papers: Sequence[Paper], away: frozenset[str], options: Any) -> Iterator[Example]:
    """The training rows: originals, swapped ones and those of abstracts, none whose stem is in ``away``."""
    dice = random.Random(options.seed)
    base = [trimmed(one) for one in examples]
    heads = {name for name, colon, _ in (paper.title.partition(": ") for paper in papers) if colon}
    names = sorted(name for name in heads if " " not in name and 2 < len(name) < 16 and name.isascii())
    plain = {word for paper in papers[:2000] for word in _WORD.findall(paper.title) if word.islower() and len(word) > 4}
    words = sorted(plain - FUNCTION_WORDS)
    made = make(papers, options.count, seed=options.seed)
    repeated = (quoted(copy, dice, options.quotes) for _ in range(options.repeats) for copy in base)
    for one in (*repeated, *made):
        if stem_of(one.query) not in away:
            yield _varied(one, dice, options.only)
    for _ in range(options.swaps):
        for one in base:
            other = swapped(one, names, words, dice)
            if other is not None and stem_of(other.query) not in away:
                yield quoted(other, dice, options.quotes)


def _varied(example: Example, dice: random.Random, share: float) -> Example:
    """The example, or with a chance of ``share`` the same for one type."""
    kinds: tuple[Any, ...] = TYPES
    return (only(example, dice.choice(kinds)) if dice.random() < share else None) or example


def whole(examples: Iterable[Example], say: Callable[[str], None]) -> list[Example]:
    """Those that have every type asked for: an answer is bound to have all three."""
    kept, lost = [], 0
    for one in examples:
        if one.asked or {kind for kind, _ in one.output} == set(TYPES):
            kept.append(one)
        else:
            lost += 1
    if lost:
        say(f"{lost} rows lack a type and are left out")
    return kept


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says."""
    parser = command("expansion_augment.py", __doc__)
    add = parser.add_argument
    add("folder", type=Path, metavar="FOLDER", help="a data folder of prepare_data.py")
    add("-o", "--out", type=Path, default=FOLDER / "augmented", metavar="FOLDER", help="where the new folder goes")
    add("--abstracts", type=Path, metavar="FILE", help="JSONL (.gz) with title and abstract")
    add("--count", type=int, default=16000, help="rows made of abstracts (default 16000)")
    add("--papers", type=int, default=30000, help="abstracts that are read (default 30000)")
    add("--repeats", type=int, default=3, help="times that each row of the folder comes (default 3)")
    add("--swaps", type=int, default=4, help="times that each row comes with words swapped (default 4)")
    add("--quotes", type=float, default=0.5, help="chance of a quoted phrase in a lex line (default 0.5)")
    add("--only", type=float, default=0.06, help="chance that a row is asked for one type (default 0.06)")
    add("--valid", type=float, default=0.01, help="share of the rows of abstracts for validation (default 0.01)")
    add("--held-out", type=Path, action="append", default=[], metavar="FILE", help="an evaluation set; may be repeated")
    add("--seed", type=int, default=1)
    add("--yes", action="store_true", help="overwrite what is there")
    args = parser.parse_args(argv)
    if (args.out / "card.json").exists() and not args.yes:
        raise UsageError(f"{args.out}: is a data folder already", "choose another name, or repeat with --yes")
    card = read_json(args.folder / "card.json")
    train, valid = (read_folder(args.folder / f"{name}.jsonl") for name in ("train", "valid"))
    away = frozenset(one.stem for one in valid).union(*(held_out_stems(path) for path in args.held_out))
    papers = papers_of(read_jsonl(args.abstracts), args.papers) if args.abstracts else []
    rows = whole(mixed(train, papers, away, args), print)
    order = sorted(range(len(rows)), key=lambda place: chance(args.seed, "order", f"{place}/{rows[place].query}"))
    options = {
        key: getattr(args, key) for key in ("count", "papers", "repeats", "swaps", "quotes", "only", "valid", "seed")
    }
    card["augmented"] = options | {"from": file_hash(args.folder / "train.jsonl")}
    if args.abstracts:
        card["augmented"]["abstracts"] = file_hash(args.abstracts)
    held_back = whole((trimmed(one) for one in valid), print)
    ordered = [rows[place] for place in order]
    unseen = {one.stem for one in ordered if one.source == SOURCE and chance(args.seed, "valid", one.stem) < args.valid}
    held_back += [one for one in ordered if one.stem in unseen]
    kept = [one for one in ordered if one.stem not in unseen]
    card["rows"] = {"train": len(kept), "valid": len(held_back)}
    write(args.out, kept, held_back, card, intent=True)
    print(json.dumps(card["rows"]))
    return Exit.DONE


if __name__ == "__main__":
    raise SystemExit(main())
