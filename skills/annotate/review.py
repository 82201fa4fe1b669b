"""``/annotate --review FILE``: decide cells one key at a time, least confident first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import Exit, UsageError
from harness.outputs import check_target
from harness.skills import Outcome
from skills.annotate.decisions import GoldFile, Question, numbered, parse_numbers, queue, read
from skills.annotate.moves import load_framework

if TYPE_CHECKING:
    from rich.console import Console

    from harness.context import Context

KEYS = {"a": "accept", "e": "edit", "r": "reject (not stated)", "s": "skip", "b": "back", "q": "quit"}
ReadKey = Callable[[], str]
ReadLine = Callable[[str], str]


def review(path: Path, gold_path: Path | None, context: Context) -> Outcome:
    """Walk through the annotations of a file on a terminal; decisions go to a gold file beside it."""
    from harness.console import stdin_is_terminal

    if not context.interactive and not stdin_is_terminal():
        raise UsageError("/annotate --review asks questions", "run it on a terminal")
    gold_path = gold_path or path.with_name(f"{path.stem}.gold.jsonl")
    if gold_path.suffix.lower() != ".jsonl":
        raise UsageError(f"{gold_path}: decisions are kept as JSON lines", "name a file ending in .jsonl")
    check_target(gold_path, yes=context.settings.yes or gold_path.is_file())  # one that is there is added to
    records = read(path)
    gold = GoldFile(gold_path)
    questions = queue(records, gold.rows)
    read_key, read_line = terminal_input()
    decided = walk(records, questions, gold, context.console, read_key, read_line)
    left = len(queue(records, gold.rows))
    context.console.print(
        f"{decided} decisions kept in {gold.path}; {left} cells left", markup=False, highlight=False, soft_wrap=True
    )
    saved = [str(gold.path)] if decided else []
    return Outcome(records=list(gold.rows.values()), exit=Exit.DONE, saved=saved, details={"decided": decided})


def walk(
    records: list[dict[str, Any]],
    questions: list[Question],
    gold: GoldFile,
    console: Console,
    read_key: ReadKey,
    read_line: ReadLine,
) -> int:
    """Ask every question until the end or ``q``; how many were decided and not taken back."""
    position, decided = 0, 0
    while position < len(questions):
        question = questions[position]
        record = records[question.row]
        show(record, question, console, position, len(questions))
        key = read_key()
        if key == "q":
            break
        if key == "b":
            position = max(0, position - 1)
            before = questions[position]
            decided -= gold.undo(records[before.row], before.move)
            continue
        if key == "e":
            numbers = ask_numbers(record, read_line, console)
            if numbers is None:
                continue
        elif key in "ar":
            numbers = list(question.proposal) if key == "a" else []
        else:
            position += 1
            continue
        gold.decide(record, question.move, numbers)
        decided += 1
        position += 1
    return decided


def ask_numbers(record: dict[str, Any], read_line: ReadLine, console: Console) -> list[int] | None:
    """Sentence numbers typed by the user; None where the line is no list of them."""
    count = len(numbered(record))
    numbers = parse_numbers(read_line(f"sentences (1 to {count}, best first; empty: not stated): "), count)
    if numbers is None:
        console.print(f"not a list of numbers from 1 to {count}", style="red")
    return numbers


def show(record: dict[str, Any], question: Question, console: Console, position: int, total: int) -> None:
    """The paper with the proposed sentences marked, the question, and the keys."""
    from rich.text import Text

    from harness.console import clean

    def say(*texts: Text) -> None:
        console.print(*texts, soft_wrap=False)

    move = next((m for m in load_framework().moves if m.name == question.move), None)
    console.rule(f"{position + 1} of {total}")
    say(Text(clean(str(record.get("title") or record["id"])), style="bold"))
    for number, sentence in enumerate(numbered(record), 1):
        chosen = number in question.proposal
        style = "reverse" if chosen else ""
        say(Text(f"[{number}] ", style="dim") + Text(" ".join(clean(sentence.text).split()), style=style))
    console.print()
    asked = f"{question.move}: {move.question}" if move else question.move
    proposal = ", ".join(map(str, question.proposal)) or "not stated"
    sure = "" if question.confidence is None else f" (confidence {question.confidence:.2f})"
    say(Text(clean(asked), style="bold"), Text(f"→ {proposal}{sure}"))
    say(Text("  ".join(f"{key} {meaning}" for key, meaning in KEYS.items()), style="dim"))


def terminal_input() -> tuple[ReadKey, ReadLine]:
    """Reading one of KEYS, and reading a line, from the terminal."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

    bindings = KeyBindings()
    for name in KEYS:

        @bindings.add(name)
        def _(event: KeyPressEvent, name: str = name) -> None:
            event.app.exit(result=name)

    @bindings.add("<any>")
    def _(event: KeyPressEvent) -> None:
        """Any other key does nothing."""

    keys: PromptSession[str] = PromptSession(key_bindings=bindings)
    lines: PromptSession[str] = PromptSession()
    return lambda: keys.prompt("? "), lambda message: lines.prompt(message)
