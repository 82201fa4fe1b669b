"""The whole road of one model, from labels to the registry, each step skipped while nothing it depends on has changed.

    python finetune/road.py annotator --config finetune/configs/road-annotator-mini.yaml --dry-run
    python finetune/road.py annotator --yes
    python finetune/road.py annotator --set limit=800 --set out=finetune_output/road-800 --loop 2400 --yes

The plan comes first: what runs, what is skipped, why, and how long it takes where that is known. Each step is a process of
its own. Ctrl-C or a kill costs at most what the step has not kept; the same command goes on. ``--loop N`` goes around once
more: the new model annotates N unlabelled abstracts, the curator chooses, a second model learns from gold and those.

Exit 0 done, 1 a step failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":  # run as a file, Python looks for modules beside it, not in the checkout
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from harness.arguments import Formatter, Parser, guarded
from harness.config import ROOT
from harness.errors import Exit, UsageError

if TYPE_CHECKING:
    from finetune.roads.config import RoadConfig
    from finetune.roads.steps import Plan

DEFAULT = ROOT / "finetune" / "configs" / "road-annotator-mini.yaml"


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says; everything goes to stderr but ``--json``."""
    args = parser().parse_args(argv)
    if args.run is None:
        parser().print_help()
        return Exit.DONE
    return int(args.run(args))


def parser() -> Parser:
    """The command line."""
    top = Parser(prog="python finetune/road.py", description=__doc__, formatter_class=Formatter)
    top.set_defaults(run=None)
    roads = top.add_subparsers(metavar="ROAD", parser_class=Parser)
    road = roads.add_parser("annotator", help="a model for /annotate", description=__doc__)
    road.set_defaults(run=annotator)
    road.add_argument("--config", type=Path, default=DEFAULT, metavar="FILE", help="YAML (default: %(default)s)")
    road.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a value of the file")
    road.add_argument(
        "--from", dest="start", default="", metavar="STEP", help="run this step and those behind it in any case"
    )
    road.add_argument(
        "--loop", type=int, default=0, metavar="N", help="once more around with N abstracts it annotated itself"
    )
    road.add_argument("--dry-run", action="store_true", help="show the plan, do nothing")
    road.add_argument("--yes", action="store_true", help="do not ask before starting")
    road.add_argument("--json", action="store_true", help="print the plan as JSON lines")
    return top


def annotator(args: argparse.Namespace) -> int:
    """``road.py annotator``."""
    from finetune.roads.annotator import road
    from finetune.roads.run import run_road
    from harness.console import prepare_streams, stderr_console

    prepare_streams()
    if args.loop < 0:
        raise UsageError(f"--loop {args.loop} is below 0", "give a number of abstracts")
    config = configured(args.config, args.set)
    plans = run_road(
        road(config, args.loop),
        config.folder,
        stderr_console(),
        start=args.start,
        dry=args.dry_run,
        agree=lambda plans: may_export(plans, config) and (args.yes or _ask()),
    )
    if args.json:
        from harness.console import show_records

        show_records(map(_record, plans))
    return Exit.DONE


def configured(path: Path, changes: Sequence[str]) -> RoadConfig:
    """The configuration of a file with ``key=value`` changes, whose values are YAML. Raises InputError, UsageError."""
    import yaml

    from finetune.roads.config import load, parse

    config = load(path)
    values: dict[str, Any] = {}
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals:
            raise UsageError(f"--set {change}: has no '='", "write --set key=value")
        try:
            values[name] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise UsageError(f"--set {change}: {text!r} is no value of YAML", "quote it") from None
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(config).items()}
    return parse({**plain, **values}, f"{path} with --set" if values else str(path))


def may_export(plans: Sequence[Plan], config: RoadConfig) -> bool:
    """True, unless what would be exported is served now: said before hours of training. Raises UsageError."""
    from harness.registry import find

    names = {"export": config.name, "loop-export": f"{config.name}-loop"}
    for plan in plans:
        if plan.state == "skip" or plan.step.name not in names:
            continue
        entry = find(name := names[plan.step.name])
        if entry is not None and entry.status == "active":
            raise UsageError(f"{name} is served now and would be replaced", "give the new one another tag: --set name=…")
    return True


def _record(plan: Plan) -> dict[str, Any]:
    found = {"step": plan.step.name, "state": plan.state, "why": plan.why, "seconds": plan.seconds}
    return {**found, "command": list(plan.step.command)}


def _ask() -> bool:
    """Whether the person at the terminal wants it. Raises UsageError where there is none."""
    if not sys.stdin.isatty():
        raise UsageError("nobody is there to be asked", "add --yes")
    print("go? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


if __name__ == "__main__":
    raise SystemExit(main())
