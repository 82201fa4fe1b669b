"""Scores of models, one entry for every task.

    python finetune/eval.py annotate --models nanda-annotator:mini,qwen3:4b,finetune_output/run/adapter \\
        --gold mine.csv -o scores.json --plot scores.svg
    python finetune/eval.py expand --model qmd-expand:mini --sft-model finetune_output/sft/adapter -o scores.json

``annotate`` compares annotators on labels of your own: F1 per move with 95% intervals (bootstrap over papers) and paired
differences to the first model, how evenly they apply the moves (all of them, in order, in like depth), papers a minute
and peak memory. A model is a registry name, an Ollama tag, a GGUF file, or a folder: of save_pretrained, or a PEFT
adapter. Gold is CSV as /annotate writes it, with the labels corrected, or JSON lines (gold rows, decisions of /annotate
--review). ``expand`` scores expansions of queries, ``ask`` answers with sources (``eval.py expand --help``, ``eval.py ask
--help``).

Answers are kept: a run that was killed goes on where it stopped. Exit 0 done, 1 a model could not be scored, 2 wrong usage,
3 no model can run here.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":  # run as a file, Python looks for modules beside it, not in the checkout
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from harness.arguments import Formatter, Parser, guarded
from harness.errors import Exit, InputError, MarginaliaError, UsageError

if TYPE_CHECKING:
    from skills.annotate.moves import Framework


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says; results on stdout, everything else on stderr."""
    args = parser().parse_args(with_task(sys.argv[1:] if argv is None else argv))
    if args.run is None:
        parser().print_help()
        return Exit.DONE
    return int(args.run(args))


def with_task(argv: Sequence[str]) -> list[str]:
    """A command line with its task: options without one are those of ``expand``, as QMD's script has them.

    >>> with_task(["-v", "--model", "qmd-expand:mini"]), with_task(["ask", "--help"]), with_task(["--help"])
    (['expand', '-v', '--model', 'qmd-expand:mini'], ['ask', '--help'], ['--help'])
    """
    bare = bool(argv) and argv[0].startswith("-") and argv[0] not in ("-h", "--help")
    return ["expand", *argv] if bare else list(argv)


def parser() -> Parser:
    """The command line."""
    top = Parser(prog="python finetune/eval.py", description=__doc__, formatter_class=Formatter)
    top.set_defaults(run=None)
    tasks = top.add_subparsers(metavar="TASK", parser_class=Parser)
    task = tasks.add_parser("annotate", help="compare annotators on gold labels", description=__doc__)
    task.set_defaults(run=annotate)
    task.add_argument("--models", required=True, metavar="A,B,C", help="the first one is what the others are compared with")
    task.add_argument("--gold", required=True, type=Path, metavar="FILE", help=".csv or .jsonl with labels")
    task.add_argument("--set", default="", metavar="NAME", help="name of the gold set in scores (default: the file's)")
    task.add_argument("-o", "--out", type=Path, metavar="FILE", help="write all figures as JSON")
    task.add_argument("--plot", type=Path, metavar="FILE", help="write a picture as SVG")
    task.add_argument("--json", action="store_true", help="print all figures as JSON instead of tables")
    task.add_argument("--linear", type=Path, metavar="FILE", help="add the linear baseline, trained on this gold")
    task.add_argument("--limit", type=int, default=0, metavar="N", help="score the first N papers only")
    task.add_argument(
        "--abstracts", action="append", default=[], metavar="FILE", help="for labels without abstracts; or: arxiv"
    )
    task.add_argument("--contract", default="", help="prompt contract of models that do not say theirs")
    task.add_argument("--unconstrained", action="store_true", help="no forced JSON: what the models do by themselves")
    task.add_argument("--fresh", action="store_true", help="ask and measure again, whatever was kept")
    task.add_argument("--workers", type=int, metavar="N", help="requests at once (default: what the backend can do)")
    task.add_argument("--threads", type=int, metavar="N", help="CPU threads of a model that runs here")
    task.add_argument("--offline", action="store_true", default=None, help="nothing leaves this machine")
    task.add_argument("--rounds", type=int, default=2000, metavar="N", help="bootstrap resamples (default 2000)")
    task.add_argument("--seed", type=int, default=0, help="of the bootstrap (default 0)")
    from finetune.evaluation import ask, expansion

    expansion.add_to(tasks)
    ask.add_to(tasks)
    return top


def annotate(args: argparse.Namespace) -> int:
    """``eval.py annotate``: exit 1 when a model could not be scored (the others are)."""
    specs = [spec.strip() for spec in args.models.split(",") if spec.strip()]
    if not specs or len(set(specs)) != len(specs):
        raise UsageError(f"--models {args.models!r} names no model, or one twice", "separate names by commas")
    for name, least in (("limit", 0), ("rounds", 100), ("workers", 1), ("threads", 1)):
        if (value := getattr(args, name)) is not None and value < least:
            raise UsageError(f"--{name} {value} is too few", f"give {least} or more")
    _check_targets(args.out, args.plot)
    from finetune.evaluation.models import expand

    specs = expand(specs)
    report, problems = compare(args, specs)
    from finetune.evaluation.output import give
    from finetune.evaluation.report import tables

    if args.plot:
        from finetune.evaluation.plot import draw
        from harness.outputs import atomic_write

        with atomic_write(args.plot) as handle:
            handle.write(draw(report))
    give(report, lambda: tables(report), out=args.out, as_json=args.json)
    for problem in problems:
        print(problem, file=sys.stderr)
    return Exit.FAILED if problems else Exit.DONE


def compare(args: argparse.Namespace, specs: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The report on all models that could be scored, and a line for each that could not.

    Raises the error of a model that cannot be opened where it is the only one, or the first: there is no comparison then.
    """
    from finetune.evaluation import report as reports
    from finetune.evaluation.gold import read_gold
    from finetune.evaluation.runs import Evaluator
    from harness.config import home, load_settings
    from harness.console import stderr_console
    from skills.annotate.moves import load_framework

    framework, console = load_framework(), stderr_console()
    settings = load_settings({"workers": args.workers, "threads": args.threads, "offline": args.offline})
    papers, notes = read_gold(args.gold, framework, limit=args.limit, abstracts=args.abstracts, offline=settings.offline)
    for note in notes:
        console.print(note)
    bootstrap = {"rounds": args.rounds, "seed": args.seed}
    baseline = [_linear_row(args.linear, papers, framework, bootstrap)] if args.linear else []
    evaluator = Evaluator(
        framework,
        settings,
        console,
        home() / "evaluation.db",
        fresh=args.fresh,
        free=args.unconstrained,
        contract=args.contract,
    )
    rows: list[dict[str, Any]] = []
    problems: list[str] = []
    for number, spec in enumerate(specs, 1):
        console.print(f"{number}/{len(specs)} {spec}", style="dim")
        try:
            run = evaluator.run(spec, papers)
        except MarginaliaError as error:
            if not rows:
                raise
            problems.append(f"{spec}: {error}")
            continue
        rows.append(reports.row_of(run, papers, framework.names, **bootstrap))
        if run.errors:
            problems.append(
                f"{spec}: {len(run.errors)} of {len(papers)} papers without an annotation, first {run.errors[0]}"
            )
    found = reports.header(args.gold, args.set or args.gold.stem, papers, framework.names)
    found |= {"unconstrained": args.unconstrained, "machine": _machine(), **bootstrap, "models": rows + baseline}
    return found | {"differences": reports.compared(found["models"], **bootstrap)}, problems


def _linear_row(
    path: Path, papers: Sequence[dict[str, Any]], framework: Framework, bootstrap: dict[str, int]
) -> dict[str, Any]:
    """The linear baseline as a row of the report; it has no figures of consistency, speed and memory."""
    try:
        import sklearn  # noqa: F401
    except ImportError:
        raise InputError("--linear needs scikit-learn", "pip install 'marginalia[finetune]'") from None
    from finetune.evaluation import baseline, counts
    from finetune.evaluation.gold import read_gold
    from finetune.evaluation.report import quality

    moves = framework.names
    train, _ = read_gold(path, framework)
    baseline.check_leaks(train, papers, str(path))
    found = baseline.as_found(baseline.linear(train, papers, moves), papers, moves)
    return {
        "model": baseline.LINEAR,
        "place": "scikit-learn",
        "digest": "",
        "contract": "",
        **quality(counts.confusion(papers, found, moves), moves, **bootstrap),
        "failed": 0,
        "errors": [],
        "consistency": None,
        "papers_per_minute": None,
        "peak_bytes": None,
    }


def _check_targets(out: Path | None, plot: Path | None) -> None:
    """Before any work: what is to be written has a name that fits, and a folder."""
    if plot is not None and plot.suffix.lower() != ".svg":
        raise UsageError(f"{plot}: the plot is an SVG", "name it something.svg")
    for path in (out, plot):
        if path is not None and path.is_dir():
            raise UsageError(f"{path}: is a folder", "name a file in it")


def _machine() -> str:
    """Processor and cores in words: speed means nothing without."""
    import os
    import platform

    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text(encoding="utf-8", errors="replace").splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {os.cpu_count()} cores"


if __name__ == "__main__":
    raise SystemExit(main())
