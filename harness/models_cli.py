"""``python agent.py models``: what could serve each task here and why; ``models install NAME`` puts one into Ollama."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from harness.arguments import Parser
from harness.config import Settings, home
from harness.console import clean, show_records, show_table
from harness.errors import Exit, InputError, NoModelError, Offline, UsageError

if TYPE_CHECKING:
    from harness.models.ollama_install import OnProgress
    from harness.models.resolve import Offer

EXAMPLES = """examples:
  models --json
  models install nanda-annotator:mini    then: ollama run nanda-annotator:mini"""


def models_main(argv: Sequence[str], settings: Settings) -> int:
    """Do what ``argv`` says: the table on stdout, progress on stderr.

    Exit 0. Raises MarginaliaError: NoModelError (exit 3) where no Ollama is there to install into.
    """
    what = "What could serve each task here, and why or why not."
    parser = Parser(prog="marginalia models", description=what, epilog=EXAMPLES)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    install = commands.add_parser("install", help="put a registry model into the running Ollama")
    install.add_argument("name", metavar="NAME", help="name in the registry")
    args = parser.parse_args(argv)
    if args.command == "install":
        return _install(args.name, settings, as_json=args.json or settings.json)
    return _table(args, settings)


def _tasks() -> tuple[list[tuple[str, bool]], dict[str, str], list[str]]:
    """Every task of the registry and of the installed skills, whether a general model may serve it; what those do that
    need no model; and warnings."""
    from harness.models.resolve import CHAT
    from harness.registry import scan
    from harness.skill_files import GENERAL, WITHOUT
    from harness.skills import find_skills

    entries, problems = scan()
    skills, warnings = find_skills(home())
    general = {entry.task: False for entry in entries}
    general |= {skill.name: skill.file.metadata.get(GENERAL, "yes") != "no" for skill in skills}
    general[CHAT] = True
    without = {skill.name: text for skill in skills if (text := skill.file.metadata.get(WITHOUT))}
    return sorted(general.items()), without, [*problems, *warnings]


def _table(args: argparse.Namespace, settings: Settings) -> int:
    from harness.models.resolve import explain

    tasks, without, warnings = _tasks()
    for warning in warnings:
        sys.stderr.write(f"warning: {clean(warning)}\n")
    offers = [_needless(offer, without) for offer in explain(settings, tasks)]
    if args.json or settings.json:
        show_records(asdict(offer) for offer in offers)
    else:
        rows = [
            (
                offer.task,
                ("* " if offer.chosen else "  ") + (offer.name or "-"),
                offer.backend or "-",
                offer.status or "-",
                "-" if offer.score is None else f"{offer.score:.3f}",
                offer.why,
            )
            for offer in offers
        ]
        show_table(("task", "model (* serves)", "backend", "status", "score", "why"), rows)
    return Exit.DONE


def _needless(offer: Offer, without: Mapping[str, str]) -> Offer:
    """The offer of a task that no model can serve and that needs none, saying so."""
    if offer.name or offer.task not in without:
        return offer
    return replace(offer, why=f"without a model it {without[offer.task]}; {offer.why}")


def _install(name: str, settings: Settings, *, as_json: bool) -> int:
    from harness.models.ollama_daemon import OllamaDaemon
    from harness.models.ollama_install import install
    from harness.registry import find, verify

    entry = find(name)
    if entry is None:
        raise UsageError(f"the registry has no model {name}", "see `python agent.py registry list`")
    if entry.gguf_path is None:
        raise UsageError(f"{entry.name} has no GGUF to install", "give its entry [gguf]")
    if problems := verify(entry):
        raise InputError("\n".join(problems))
    daemon = OllamaDaemon(settings.ollama_host, timeout=settings.timeout, keep_alive=settings.keep_alive)
    if settings.offline and not daemon.local:
        raise Offline(f"{daemon.url} is another machine and --offline is in force", "leave out --offline")
    if not daemon.reachable():
        raise NoModelError(f"no Ollama answers at {daemon.url}", "start it: ollama serve")
    tag = entry.ollama or entry.name
    with _progress() as on_progress:
        install(
            daemon,
            tag,
            entry.gguf_path,
            template=entry.template or None,
            parameters=dict(entry.parameters) or None,
            system=entry.system or None,
            license=entry.licence or None,
            on_progress=on_progress,
        )
    daemon.close()
    if as_json:
        show_records([{"installed": entry.name, "ollama": tag, "host": daemon.url}])
    else:
        sys.stdout.write(f"{tag} is in Ollama: ollama run {tag}\n")
    return Exit.DONE


@contextmanager
def _progress() -> Iterator[OnProgress]:
    """A bar on stderr for each step that counts bytes (hashing, uploading), a line for each that does not."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

    from harness.console import stderr_console

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    steps: dict[str, TaskID] = {}
    with Progress(*columns, console=stderr_console()) as bars:

        def show(status: str, done: int, total: int) -> None:
            if status and status not in steps:
                steps[status] = bars.add_task(clean(status).replace("[", "("), total=total or 1)
            if status:
                bars.update(steps[status], total=total or 1, completed=done if total else 1)

        yield show
