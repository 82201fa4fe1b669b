"""Train a model: one verb for each method, one YAML file for each run.

    python -m finetune.train sft finetune/configs/nanda-annotator-mini.yaml --set epochs=2
    python -m finetune.train grpo --config finetune/configs/qmd-mini-grpo.yaml --dry-run
    python -m finetune.train plan finetune/configs/nanda-annotator-7b.yaml
    python -m finetune.train sft finetune/configs/nanda-annotator-7b.yaml --resume auto

Several GPUs, from the same configuration (``batch`` is over all of them, ``device_map`` is left aside):

    accelerate launch --num_processes 2 -m finetune.train sft CONFIG
    accelerate launch --num_processes 2 --use_fsdp --fsdp_version 2 --fsdp_auto_wrap_policy TRANSFORMER_BASED_WRAP \\
        --fsdp_state_dict_type FULL_STATE_DICT -m finetune.train sft CONFIG --set quantize=none
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __package__ in (None, ""):  # python finetune/train.py
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from finetune.grpo import config as grpo_config
from finetune.grpo.config import GrpoConfig
from finetune.sft import preflight
from finetune.sft.config import SftConfig, load
from harness.arguments import Parser
from harness.console import json_line, prepare_streams, stderr_console
from harness.errors import Exit, MarginaliaError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

VERBS = {
    "sft": "supervised fine-tuning: an adapter, or all weights",
    "grpo": "group relative policy optimisation of /expand's model",
    "plan": "what a run of sft needs; trains nothing",
}
LATER = ("orpo", "dpo")
CONFIGS = Path(__file__).resolve().parent / "configs"
OTHER_NAMES = {"sft.yaml": "qmd-sft.yaml", "grpo.yaml": "qmd-grpo.yaml"}
"""What the QMD project calls the files that are ``configs/qmd-….yaml`` here."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that every way to start a run has."""
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a value of the file")
    parser.add_argument(
        "--resume", default="", metavar="CKPT|auto", help="go on from a checkpoint; auto: the newest sound one"
    )
    parser.add_argument("--restart", action="store_true", help="remove what an earlier run left in the output folder")
    plan = "say what the run needs and what it trains on, and stop"
    parser.add_argument("--plan", "--dry-run", action="store_true", help=plan)
    parser.add_argument("--offline", action="store_true", help="download nothing")
    parser.add_argument("--force", action="store_true", help="start although memory or disk seem too small")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON line")


def build_parser() -> Parser:
    """The command line of ``python -m finetune.train``."""
    parser = Parser(prog="python -m finetune.train", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb, text in VERBS.items():
        sub = verbs.add_parser(verb, help=text, description=__doc__)
        sub.add_argument("config", type=Path, nargs="?", help="a file of finetune/configs")
        sub.add_argument("--config", type=Path, dest="named", metavar="FILE", help="the same, as an option")
        add_options(sub)
    for verb in LATER:
        sub = verbs.add_parser(verb, help="not there yet")
        sub.add_argument("rest", nargs="*")
    return parser


def config_file(path: Path) -> Path:
    """The file that is meant: the path itself, else ``NAME.yaml`` or ``configs/NAME.yaml`` among ours, by either name."""
    named = CONFIGS / OTHER_NAMES.get(path.name, path.name)
    ours = path.parent == Path() or path.parent.name == CONFIGS.name
    return named if ours and not path.exists() and named.is_file() else path


def start(config: SftConfig, args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Do what the options ask for; returns the result for ``--json``."""
    if args.plan:
        from finetune.sft import plan

        result = plan.plan(config, offline=args.offline)
        if not args.json:
            print(plan.render(result), flush=True)
        return result
    from finetune.sft import run

    if args.restart and not _rank():
        preflight.restart(Path(config.out))
    result = run.sft(config, run.Run(args.resume, args.offline, args.force), console)
    if result and not args.json:
        accuracy = f"token accuracy {result['token_accuracy']:.4f}"
        print(f"{config.out}/{config.product}: eval loss {result['eval_loss']:.4f}, {accuracy}, {result['seconds']:.0f} s")
    return result


def start_grpo(config: GrpoConfig, args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """The same for ``grpo``."""
    from finetune.grpo import run
    from finetune.sft.run import Run

    if args.plan:
        plan = run.dry_run(config, force=args.force, offline=args.offline)
        if not args.json:
            print(run.render(plan), flush=True)
        return plan
    if args.restart:
        run.restart(Path(config.out))
    result = run.grpo(config, Run(args.resume, args.offline, args.force), console)
    if not args.json:
        before, after = result["eval_reward_before"], result["eval_reward"]
        took = f"best at step {result['best_step']}, {result['seconds']:.0f} s"
        print(f"{config.out}/{config.product}: held-out reward {before:.4f} -> {after:.4f}, {took}")
    return result


def _rank() -> int:
    """Which of several processes this is (torchrun and accelerate say so); 0 speaks and writes."""
    return int(os.environ.get("RANK", "0"))


def guarded(config: Path, args: argparse.Namespace) -> int:
    """Load the configuration and start; errors become one line and an exit code."""
    prepare_streams()
    preflight.quiet()
    console = stderr_console()
    console.quiet = _rank() > 0
    try:
        if args.restart and args.resume:
            raise UsageError("--restart and --resume exclude each other", "give one of them")
        if args.verb == "grpo":
            result = start_grpo(grpo_config.load(config, args.set), args, console)
        else:
            result = start(load(config, args.set), args, console)
    except MarginaliaError as error:
        stderr_console().print(f"error: {error}", style="red")
        return int(error.exit)
    except KeyboardInterrupt:
        console.print("interrupted; go on with --resume auto")
        return int(Exit.INTERRUPTED)
    if args.json and result:
        print(json_line(result))
    return int(Exit.DONE)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    try:
        args = build_parser().parse_args(argv)
        if args.verb in LATER:
            raise UsageError(f"train {args.verb}: is not there yet", "train with sft or grpo")
        path = args.named or args.config
        if path is None or (args.named and args.config):
            given = "two files" if path else "no file"
            raise UsageError(f"train {args.verb}: {given} given", "give one of finetune/configs")
    except UsageError as error:
        stderr_console().print(f"error: {error}", style="red")
        return int(error.exit)
    args.plan = args.plan or args.verb == "plan"
    return guarded(config_file(path), args)


if __name__ == "__main__":
    raise SystemExit(main())
