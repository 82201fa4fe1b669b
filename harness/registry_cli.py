"""``python agent.py registry list|show|score|promote|rollback|history|verify``: the registry from the command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness import registry, registry_history
from harness.arguments import Parser
from harness.config import Settings
from harness.console import clean, show_records, show_table
from harness.errors import Exit, UsageError
from harness.registry_entry import to_toml

EXAMPLES = """examples:
  registry list
  registry show nanda-annotator:mini
  registry promote my-annotator:latest
  registry rollback annotate"""


def main(argv: Sequence[str], settings: Settings) -> int:
    """Do what ``argv`` says; results on stdout, notes on stderr.

    Exit 0 done, 1 an entry has problems, 2 wrong usage. Raises MarginaliaError for what cannot be done.
    """
    parser = _parser()
    args = parser.parse_args(argv)
    if args.run is None:
        parser.print_help()
        return Exit.DONE
    code: int = args.run(args, settings)
    return code


def _parser() -> Parser:
    parser = Parser(prog="marginalia registry", description="Models and which of them are served.", epilog=EXAMPLES)
    parser.set_defaults(run=None)
    commands = parser.add_subparsers(metavar="COMMAND", parser_class=Parser)
    for name, run, argument, text in (
        ("list", _list, "", "every entry with its status and score"),
        ("show", _show, "NAME", "one entry, as its file says"),
        ("score", _score, "NAME", "write measured scores into an entry, and their counts beside it"),
        ("promote", _promote, "NAME", "serve an entry from now on, if it passes its gate"),
        ("rollback", _rollback, "TASK", "serve again what the last promotion replaced (a task, or the model's name)"),
        ("history", _history, "[NAME]", "what was promoted and rolled back, and when; of one model, or of all"),
        ("verify", _verify, "[NAME]", "check files and hashes of one entry, or of all"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        if argument:
            command.add_argument("name", metavar=argument.strip("[]"), nargs="?" if argument.startswith("[") else None)
        if name == "score":
            command.add_argument("report", type=Path, metavar="SCORES.json", help="of finetune/eval.py annotate or ask")
            command.add_argument("--model", default="", help="how the report names it (its own name unless given)")
    return parser


def _say(text: str) -> None:
    sys.stdout.write(clean(text).rstrip("\n") + "\n")


def _warn(problems: Sequence[str]) -> None:
    for problem in problems:
        sys.stderr.write(clean(problem) + "\n")


def _record(entry: registry.Entry) -> Mapping[str, Any]:
    return {**asdict(entry), "folder": str(entry.folder)}


def _list(args: argparse.Namespace, settings: Settings) -> int:
    entries, problems = registry.scan()
    if settings.json:
        show_records(map(_record, entries))
    else:
        rows = [
            (
                entry.name,
                entry.task,
                entry.status,
                "-" if entry.score is None else f"{entry.score:.3f}",
                entry.contract or "-",
            )
            for entry in entries
        ]
        show_table(("model", "task", "status", "score", "contract"), rows)
    _warn(problems)
    return Exit.FAILED if problems else Exit.DONE


def _need(name: str) -> registry.Entry:
    entry = registry.find(name)
    if entry is None:
        raise UsageError(f"the registry has no model {name!r}", "see `python agent.py registry list`")
    return entry


def _show(args: argparse.Namespace, settings: Settings) -> int:
    entry = _need(args.name)
    if settings.json:
        show_records([_record(entry)])
    else:
        _say(f"# {entry.file}\n{to_toml(entry)}")
    return Exit.DONE


def _report(change: registry.Change, settings: Settings) -> int:
    if settings.json:
        show_records([{"task": change.active.task, "active": change.active.name, "retired": list(change.retired)}])
    else:
        _say(f"{change.active.name} is served for {change.active.task}")
        for name in change.retired:
            _say(f"{name} is retired")
    return Exit.DONE


def _score(args: argparse.Namespace, settings: Settings) -> int:
    entry = registry.score(args.name, args.report, args.model)
    if settings.json:
        show_records([_record(entry)])
    else:
        _say(f"{entry.name}: {', '.join(f'{name} {values}' for name, values in entry.scores.items())}")
    return Exit.DONE


def _history(args: argparse.Namespace, settings: Settings) -> int:
    lines = registry_history.read(registry.folders())
    if args.name:
        lines = [line for line in lines if registry_history.is_of(line, args.name)]
    if settings.json:
        show_records(lines)
    else:
        rows = [
            (
                str(line.get("time", "")),
                str(line.get("did", "")),
                str(line.get("active", "")),
                ", ".join(map(str, line.get("retired") or [])) or "-",
                "-" if line.get("score") is None else str(line["score"]),
            )
            for line in lines
        ]
        show_table(("time", "did", "served since", "retired", "score"), rows)
    return Exit.DONE


def _promote(args: argparse.Namespace, settings: Settings) -> int:
    return _report(registry.promote(args.name), settings)


def _rollback(args: argparse.Namespace, settings: Settings) -> int:
    return _report(registry.rollback(args.name), settings)


def _verify(args: argparse.Namespace, settings: Settings) -> int:
    entries, problems = ([_need(args.name)], []) if args.name else registry.scan()
    wrong = {entry.name: registry.verify(entry) for entry in entries}
    if settings.json:
        show_records({"name": name, "problems": lines} for name, lines in wrong.items())
    else:
        for name, lines in wrong.items():
            _say("\n".join(lines) if lines else f"{name}: as it should be")
    _warn(problems)
    return Exit.FAILED if problems or any(wrong.values()) else Exit.DONE
