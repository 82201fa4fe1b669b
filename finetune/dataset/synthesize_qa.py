"""Have a chat model write questions and answers from your own papers, and keep those that hold.

    python finetune/dataset/synthesize_qa.py papers/ --model qwen3:8b -o finetune_output/qa/synthetic.jsonl
    python finetune/dataset/synthesize_qa.py a.pdf b.pdf --model openai/gpt-4.1 --price 2 8 --chat finetune_output/qa/train

Papers are read as /index reads them (PDF, text, Markdown, HTML, tables of abstracts, folders) and cut into passages of
about 1,000 characters. Each is asked for ``--per-context`` pairs. A pair is kept when it passes three stages: similarity to
its passage (words, quotes, numbers, equations), format, entropy; near-duplicates go. Every answer is kept in the journal: a
run that was stopped goes on where it stopped. ``-o`` and ``--chat`` are those of qasa.py.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":  # run as a file, Python looks for modules beside it, not in the checkout
    sys.path[0] = str(Path(__file__).resolve().parent.parent.parent)

from finetune.dataset import synthesis_prompt
from finetune.dataset.qa_rows import Pair, statistics, write_chat, write_text
from finetune.dataset.qasa import check_places
from finetune.dataset.synthesis_checks import Duplicates, Limits, problem
from harness.arguments import Parser, guarded
from harness.errors import Exit, InputError, MarginaliaError, UsageError
from skills.ask.record import Passage

if TYPE_CHECKING:
    from rich.console import Console

    from finetune.dataset.studio import Studio
    from harness.models.base import Model

KIND = "ask-data"
PER_CONTEXT = 3
"""The report has 3.2 questions a context."""
SHORTEST = 200
"""Characters of a passage; below, there is nothing to ask."""
OVERHEAD = 200
"""Tokens that chat templates and schemas add, generously."""
NEIGHBOURS = 256
"""Passages that give the words of a pair their weights: its own and those around it."""


@dataclass(frozen=True)
class Source:
    """A passage and where it is from."""

    paper: str
    passage: Passage


def passages(paths: Sequence[Path], passwords: Sequence[str], console: Console) -> list[Source]:
    """The passages of all papers in order, numbered through; a file that cannot be read is told and passed over.

    Raises InputError for a path that leads nowhere.
    """
    from harness.jobs.progress import Progress
    from harness.search.chunks import chunks_of
    from harness.search.index import find_files
    from harness.search.pdf_process import PdfReader
    from harness.search.reading import read

    found: list[Source] = []
    files = find_files(paths)
    with PdfReader(passwords) as pdfs, Progress(console, len(files), "files") as progress:
        for path in files:
            try:
                for document in read(path, pdfs.read, {}).documents:
                    paper = f"{path.name} {document.id or document.place}" if document.place else path.name
                    for chunk in chunks_of(document):
                        if not chunk.references and len(chunk.text) >= SHORTEST:
                            place = (
                                path.name,
                                document.title,
                                chunk.page,
                                "",
                                chunk.header,
                                chunk.text,
                                chunk.sentences,
                                0.0,
                            )
                            found.append(Source(paper, Passage(len(found) + 1, *place)))
                progress.advance()
            except InputError as error:
                progress.advance(failed=True)
                console.print(f"left out: {error}", style="dim", markup=False, highlight=False)
    return found


def pairs(studio: Studio, sources: Sequence[Source], args: Namespace, model: str, left_out: Counter[str]) -> Iterator[Pair]:
    """The pairs that hold, in the order of the passages; the others are counted by reason."""
    from skills.ask.support import Evidence
    from skills.ask.terms import Stemmer

    limits = replace(Limits(), similarity=args.similarity, entropy=args.entropy, duplicate=args.duplicate)
    seen, stemmer = Duplicates(limits.duplicate), Stemmer()
    asked = [(at, number) for at in range(len(sources)) for number in range(args.per_context)]
    requests = [(synthesis_prompt.CONTRACT, _request(studio, sources[at], number)) for at, number in asked]
    evidence, group = Evidence([], stemmer), -1
    for (at, number), text in zip(asked, studio.ask(requests, "questions"), strict=True):
        if at // NEIGHBOURS != group:
            group = at // NEIGHBOURS
            some = sources[group * NEIGHBOURS : (group + 1) * NEIGHBOURS]
            evidence = Evidence([one.passage for one in some], stemmer)
        try:
            written = synthesis_prompt.parse(text) if text is not None else None
        except MarginaliaError as error:
            left_out[error.message] += 1
            continue
        one = sources[at]
        if written is None:
            left_out["nothing to ask"] += text is not None  # without a text the studio has counted it
        elif why := problem(written, one.passage, evidence, limits):
            left_out[why] += 1
        elif seen.seen(written.question):
            left_out["a near-duplicate"] += 1
        else:
            yield Pair(
                id=f"{one.paper}-{one.passage.n}-{number}",
                question=written.question,
                reasoning=written.reasoning,
                answer=written.answer,
                contexts=(one.passage.text,),
                paper=one.paper,
                title=one.passage.title,
                source=model,
            )


def _request(studio: Studio, one: Source, number: int) -> Any:
    chat = synthesis_prompt.messages(one.passage.header, one.passage.text, number)
    return studio.request(chat, synthesis_prompt.schema(), synthesis_prompt.OUTPUT_TOKENS, number)


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says."""
    args = _arguments(argv)
    from finetune.dataset.studio import Studio
    from harness.config import home, load_settings
    from harness.console import prepare_streams, stderr_console
    from harness.jobs.journal import Journal
    from harness.models.resolve import CHAT, open_choice, resolve

    prepare_streams()
    settings = load_settings({name: getattr(args, name) for name in ("model", "workers", "offline")})
    console = stderr_console()
    sources = passages(args.inputs, args.password, console)
    if args.contexts:
        sources = sources[: args.contexts]
    if not sources:
        raise InputError(
            "no passage of a paper to ask about", "give papers: PDF, text, Markdown, HTML, or a table of abstracts"
        )
    choice = resolve(CHAT, settings, allow_general=True)
    console.print(f"model: {choice.name} ({choice.backend}), {choice.why}", style="dim", markup=False)
    model = open_choice(choice, settings)
    left_out: Counter[str] = Counter()
    try:
        _reserve(model, sources)
        with Journal(home() / "journal.db") as journal:
            workers = settings.workers or model.slots
            studio = Studio(model, journal, workers, args.seed, console, KIND, synthesis_prompt.TEMPERATURE, 1.0)
            found = list(pairs(studio, sources, args, choice.name, left_out))
    finally:
        model.close()
    console.print(studio.cost.line(args.price), highlight=False)
    left_out.update(studio.cost.failed)
    return _finish(args, found, len(sources), left_out, choice.name)


def _reserve(model: Model, sources: Sequence[Source]) -> None:
    """Have the model's context hold the largest request."""
    longest = max((one.passage for one in sources), key=lambda passage: len(passage.text))
    text = "\n".join(message.content for message in synthesis_prompt.messages(longest.header, longest.text, 0))
    needed = model.count_tokens(text) + synthesis_prompt.OUTPUT_TOKENS + OVERHEAD
    model.reserve(min(needed, model.info.context or needed))


def _finish(args: Namespace, found: Sequence[Pair], contexts: int, left_out: Counter[str], model: str) -> int:
    """Write what there is and say what became of the rest. Raises InputError where nothing holds."""
    for reason, count in left_out.most_common():
        print(f"  left out: {reason}: {count}", file=sys.stderr)
    if not found:
        raise InputError("no pair holds", "take another model with --model, or lower --similarity")
    facts = statistics(found)
    if args.out is not None:
        write_text(args.out, found, overwrite=args.yes)
        print(f"{args.out}: {_line(facts, contexts)}")
    if args.chat is not None:
        asked = {
            "contexts": contexts,
            "per_context": args.per_context,
            "model": model,
            "left_out": dict(left_out.most_common()),
        }
        card = write_chat(
            args.chat, found, valid=args.valid, seed=args.seed, facts={"statistics": facts, "synthesis": asked}
        )
        print(f"{args.chat}: {card['rows']['train']} rows for training, {card['rows']['valid']} for validation")
    return Exit.DONE


def _line(facts: dict[str, Any], contexts: int) -> str:
    return (
        f"{facts['pairs']:,} pairs from {facts['papers']:,} papers, {facts['questions_per_context']} questions a context "
        f"({facts['contexts']:,} of {contexts:,} passages have one)"
    )


def _arguments(argv: Sequence[str] | None) -> Namespace:
    limits = Limits()
    parser = Parser(prog="python finetune/dataset/synthesize_qa.py", description=__doc__)
    add = parser.add_argument
    add("inputs", nargs="+", type=Path, metavar="PATH", help="papers, or folders of them")
    add("-o", "--out", type=Path, metavar="PATH", help="pairs as .jsonl")
    add("--chat", type=Path, metavar="FOLDER", help="data folder for finetune/train.py sft")
    add(
        "--per-context",
        type=int,
        default=PER_CONTEXT,
        metavar="N",
        help=f"pairs asked of a passage (default {PER_CONTEXT})",
    )
    add("--contexts", type=int, default=0, metavar="N", help="only the first N passages (default: all)")
    add(
        "--similarity",
        type=float,
        default=limits.similarity,
        metavar="SHARE",
        help="of the answer in its passage (default %(default)s)",
    )
    add("--entropy", type=float, default=limits.entropy, metavar="BITS", help="of the answer's words (default %(default)s)")
    add(
        "--duplicate",
        type=float,
        default=limits.duplicate,
        metavar="SHARE",
        help="of stems shared by two questions (default %(default)s)",
    )
    add("--model", metavar="NAME", help="the chat model (default: the one that is here)")
    add("--price", type=float, nargs=2, metavar=("IN", "OUT"), help="dollars for a million tokens")
    add("--workers", type=int, metavar="N", help="requests at once (default: what the model can do)")
    add("--password", action="append", default=[], metavar="TEXT", help="for encrypted PDFs; may be repeated")
    add("--valid", type=float, default=0.1, metavar="SHARE", help="of the papers, for validation (default 0.1)")
    add("--seed", type=int, default=42, help="another one asks everything anew (default 42)")
    add("--offline", action="store_const", const=True, help="never use the network")
    add("--yes", action="store_true", help="overwrite what is there")
    args = parser.parse_args(argv)
    if args.out is None and args.chat is None:
        raise UsageError("nothing to write", "name -o FILE.jsonl, --chat FOLDER, or both")
    if args.per_context < 1 or args.contexts < 0 or (args.workers is not None and args.workers < 1):
        raise UsageError("--per-context and --workers are numbers of 1 or more", "give one")
    for name in ("similarity", "duplicate", "valid"):
        if not 0 <= getattr(args, name) <= (1 if name != "valid" else 0.99):
            raise UsageError(f"--{name} {getattr(args, name)}: is no share", "give a number from 0 to 1")
    check_places(args)
    return args


if __name__ == "__main__":
    raise SystemExit(main())
