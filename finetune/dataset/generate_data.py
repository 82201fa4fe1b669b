"""Have a chat model write expansion data: queries that it invents (or yours), and their lines.

    python finetune/dataset/generate_data.py --count 100 --model qwen3:8b
    python finetune/dataset/generate_data.py --queries mine.txt --model anthropic/claude-sonnet-4-5 --price 3 15

The model is any that the harness can reach: an Ollama tag, a GGUF file, a registry name, or a remote one by its provider.
Every answer is kept in the journal: a run that was stopped goes on where it stopped, and asks nothing twice. Questions that
``--known`` files or earlier rows ask are left out. What it took in tokens (and money, with ``--price``) is said at the end.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if __name__ == "__main__":  # run as a file, Python looks for modules beside it, not in the checkout
    sys.path[0] = str(Path(__file__).resolve().parent.parent.parent)

from finetune.dataset import invent
from finetune.dataset.expansion_cli import GENERATED, check_out, command, gives_output
from finetune.dataset.expansion_schema import Example, load_examples, stem_of, write_examples
from finetune.dataset.studio import Cost, Studio
from harness.arguments import guarded
from harness.errors import Exit, InputError, MarginaliaError, UsageError

if TYPE_CHECKING:
    from harness.models.base import Model

KIND = "expand-data"
TEMPERATURE, TOP_P = 0.8, 0.95
"""Sampling for invention; each request has a seed of its own."""
STALE_ROUNDS = 2
"""Rounds in a row without a new example after which the model is left alone: it repeats itself."""
OVERHEAD = 200
"""Tokens that chat templates and schemas add, generously."""

Tell = Callable[[str], None]


def invented(studio: Studio, start: int, count: int) -> list[tuple[str, str]]:
    """``(query, category)`` from ``count`` requests, the first with the number ``start``."""
    numbers = range(start, start + count)
    requests = [
        (
            invent.CONTRACT,
            studio.request(invent.messages(number), invent.schema(), invent.OUTPUT_TOKENS, number),
        )
        for number in numbers
    ]
    found = []
    for number, text in zip(numbers, studio.ask(requests, "lists of queries"), strict=True):
        try:
            queries = invent.parse(text) if text is not None else []
        except MarginaliaError as error:
            studio.cost.fail(error.message)
            continue
        found += [(query, invent.task(number)[0]) for query in queries]
    return found


def expanded(studio: Studio, queries: Sequence[tuple[str, str]], source: str) -> Iterator[Example]:
    """An example for each query whose answer is good after the filters that serve /expand, in their order."""
    from skills.expand import chat_prompt
    from skills.expand.filters import filter_lines
    from skills.expand.prompt import parse_query

    parsed = [parse_query(query) for query, _ in queries]
    requests = [
        (
            chat_prompt.CONTRACT,
            studio.request(chat_prompt.messages(query), chat_prompt.schema(query), chat_prompt.OUTPUT_TOKENS, number),
        )
        for number, query in enumerate(parsed)
    ]
    for (text, category), query, answer in zip(queries, parsed, studio.ask(requests, "expansions"), strict=True):
        if answer is None:
            continue
        try:
            lines = filter_lines(query, chat_prompt.parse(answer, query)[0]).lines
        except MarginaliaError as error:
            studio.cost.fail(error.message)
            continue
        if missing := {"hyde", "lex", "vec"} - {line.type for line in lines}:
            studio.cost.fail(f"no usable {' and no usable '.join(sorted(missing))} line")
            continue
        output = tuple((line.type, line.text) for line in lines)
        yield Example.model_validate({"query": text, "output": output, "category": category or None, "source": source})


def generate(studio: Studio, count: int, known: set[str], source: str) -> list[Example]:
    """``count`` examples of invented queries; fewer where the model has no new ideas. ``known`` (stems) are left out."""
    found: list[Example] = []
    stems, number, stale = set(known), 0, 0
    while len(found) < count and stale < STALE_ROUNDS:
        ideas = -(-(count - len(found)) // invent.PER_REQUEST) + 1  # one list more than all being new would need
        fresh = unknown(invented(studio, number, ideas), stems)[: count - len(found)]
        number += ideas
        before = len(found)
        found += expanded(studio, fresh, source)
        stale = 0 if len(found) > before else stale + 1
    return found


def unknown(queries: Sequence[tuple[str, str]], stems: set[str]) -> list[tuple[str, str]]:
    """The queries whose question is new; their stems are added."""
    fresh = []
    for query, category in queries:
        if (stem := stem_of(query)) not in stems:
            stems.add(stem)
            fresh.append((query, category))
    return fresh


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says."""
    args = _arguments(argv)
    from harness.config import home, load_settings
    from harness.console import prepare_streams, stderr_console
    from harness.jobs.journal import Journal
    from harness.models.resolve import CHAT, open_choice, resolve

    prepare_streams()
    names = ("model", "workers", "offline")
    settings, console = load_settings({name: getattr(args, name) for name in names}), stderr_console()
    known = {example.stem for example in load_examples(args.known)} if args.known else set()
    queries = unknown([(query, "") for query in _read_queries(args.queries)], known) if args.queries else []
    choice = resolve(CHAT, settings, allow_general=True)
    console.print(f"model: {choice.name} ({choice.backend}), {choice.why}", style="dim")
    model = open_choice(choice, settings)
    try:
        _reserve(model, [query for query, _ in queries])
        with Journal(home() / "journal.db") as journal:
            workers = settings.workers or model.slots
            studio = Studio(model, journal, workers, args.seed, console, KIND, TEMPERATURE, TOP_P)
            if args.queries:
                wanted = queries[: args.count] if args.count else queries
                found = list(expanded(studio, wanted, choice.name))
                aim = len(wanted)
            else:
                aim = args.count or 100
                found = generate(studio, aim, known, choice.name)
    finally:
        model.close()
    return _finish(args, found, aim, studio.cost, console.print)


def _arguments(argv: Sequence[str] | None) -> Namespace:
    parser = command("generate_data.py", __doc__)
    add = parser.add_argument
    gives_output(parser, GENERATED, "the examples")
    add("--count", type=int, default=0, metavar="N", help="examples (default: 100, or all of --queries)")
    add("--queries", type=Path, metavar="FILE", help="expand these, one a line, instead of inventing any")
    add("--known", type=Path, action="append", default=[], metavar="FILE", help="examples whose questions are left out")
    add("--model", metavar="NAME", help="the chat model (default: the one that is here)")
    add("--price", type=float, nargs=2, metavar=("IN", "OUT"), help="dollars for a million tokens")
    add("--workers", type=int, metavar="N", help="requests at once (default: what the model can do)")
    add("--seed", type=int, default=0, help="another one asks everything anew (default 0)")
    add("--offline", action="store_const", const=True, help="never use the network")
    args = parser.parse_args(argv)
    if args.count < 0 or (args.workers is not None and args.workers < 1):
        raise UsageError("--count and --workers are numbers of 1 or more", "give one")
    check_out(args)
    return args


def _read_queries(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{path}: cannot be read", "give a text file with one query a line") from None
    queries = invent.usable([line for line in lines if line.strip() and not line.startswith("#")])
    if not queries:
        raise InputError(f"{path}: has no queries", "write one a line")
    return queries


def _reserve(model: Model, queries: Sequence[str]) -> None:
    """Have the model's context hold the largest request."""
    from skills.expand import chat_prompt
    from skills.expand.prompt import parse_query

    longest = max(queries, key=len, default="x " * (invent.LONGEST // 2))
    chats = [chat_prompt.messages(parse_query(longest)), invent.messages(0)]
    prompt = max("\n".join(message.content for message in chat) for chat in chats)
    needed = model.count_tokens(prompt) + chat_prompt.OUTPUT_TOKENS + OVERHEAD
    model.reserve(min(needed, model.info.context or needed))


def _finish(args: Namespace, found: Sequence[Example], aim: int, cost: Cost, tell: Tell) -> int:
    tell(cost.line(args.price))
    for reason, count in sorted(cost.failed.items(), key=lambda item: -item[1]):
        tell(f"  not used: {reason}: {count}")
    if not found:
        raise InputError("the model gave no example", "take another model with --model")
    write_examples(args.out, found, overwrite=args.yes)
    print(f"{args.out}: {len(found)} examples")
    if len(found) < aim:
        tell(
            f"{aim - len(found)} of {aim} are missing: the same command asks again for what failed; --seed asks for others"
        )
        return Exit.FAILED
    return Exit.DONE


if __name__ == "__main__":
    raise SystemExit(main())
