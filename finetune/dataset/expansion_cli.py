"""What the commands of the expansion data road share: where things lie, and where results may go."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from harness.arguments import Parser
from harness.errors import UsageError

FOLDER = Path("finetune_output") / "expansion"
GENERATED, CLEAN, TRAINING = FOLDER / "generated.jsonl", FOLDER / "clean.jsonl", FOLDER / "train"
"""Where each step puts its result and the next one looks, so that the commands can be given without paths."""


def command(name: str, text: str | None) -> Parser:
    """A parser for ``python finetune/dataset/NAME``."""
    return Parser(prog=f"python finetune/dataset/{name}", description=text)


def takes_inputs(parser: Parser, default: Path) -> None:
    """Add the inputs."""
    parser.add_argument(
        "inputs", nargs="*", type=Path, default=[default], metavar="FILE", help=f"JSONL (default: {default})"
    )


def gives_output(parser: Parser, default: Path, what: str) -> None:
    """Add ``--out`` and ``--yes``."""
    parser.add_argument("-o", "--out", type=Path, default=default, metavar="PATH", help=f"{what} (default: {default})")
    parser.add_argument("--yes", action="store_true", help="overwrite what is there")


def check_out(args: Namespace) -> None:
    """Before any work: the result has a place. Raises UsageError."""
    if args.out.suffix != ".jsonl":
        raise UsageError(f"{args.out}: expansions are written as .jsonl", "name it so")
    if args.out.exists() and not args.yes:
        raise UsageError(f"{args.out}: exists already", "choose another name, or repeat with --yes to replace it")
    if any(path.resolve() == args.out.resolve() for path in getattr(args, "inputs", [])):
        raise UsageError(f"{args.out}: is also an input", "choose another name")


def percent(part: float, whole: float) -> str:
    """``12.5%``; a dash where there is nothing to divide by."""
    return f"{100 * part / whole:.1f}%" if whole else "-"
