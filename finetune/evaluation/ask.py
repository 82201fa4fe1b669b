"""``finetune/eval.py ask``: answers of models against references and gold evidence, base and tuned in one table."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.arguments import Parser
from harness.errors import Exit, InputError, MarginaliaError, UsageError

if TYPE_CHECKING:
    from finetune.dataset.qa_rows import Pair
    from finetune.evaluation.ask_judge import Judge
    from finetune.evaluation.ask_source import Answers, How
    from skills.ask.look_up import Desk

VERSION = 1
HELP = """Scores of answers to questions whose evidence is known: base and tuned model in one table.

    python finetune/eval.py ask --models qwen2.5:3b-instruct,research-qa --questions test.jsonl -o scores.json
    python finetune/eval.py ask --models extractive,finetune_output/research-qa/sft/adapter --questions qasa.json
    python finetune/eval.py ask --models qwen2.5:3b-instruct,research-qa --questions test.jsonl --judge qwen3:32b -v

A model is what /ask can use (a registry name, an Ollama tag, a GGUF file), a folder of save_pretrained or of a PEFT
adapter, or "extractive": the answer without a chat model. Questions are JSON lines with question, answer and contexts (or
evidence), "answered": false where the papers do not answer; or QASA or QASPER as published. Each question is looked up
among the evidence of all, and among --papers where they are given, and answered as /ask answers it.

The figures and what they count: finetune/evaluation/ask_scores.py. Answers are kept: a run that was killed goes on where
it stopped. Exit 0 done, 1 a question failed or a model could not be scored, 2 wrong usage, 3 no model can run here.
"""


def add_to(tasks: Any) -> None:
    """Add the sub-command to those of finetune/eval.py."""
    task: Parser = tasks.add_parser("ask", help="score answers with sources", description=HELP)
    task.set_defaults(run=run)
    add = task.add_argument
    add("--models", required=True, metavar="A,B,C", help="the first one is what the others are compared with")
    add("--questions", required=True, type=Path, action="append", metavar="FILE", help="again for more")
    add("--papers", type=Path, action="append", default=[], metavar="PATH", help="files or folders to search, too")
    add("--set", default="", metavar="NAME", help="name of the questions in scores (default: the file's)")
    add("--judge", default="", metavar="REF", help="a model that grades depth from 1 to 5")
    add("--no-perplexity", action="store_true", help="leave out the perplexity of the references: it takes time")
    add("--passages", type=int, default=8, metavar="N", help="how many passages are read (default 8)")
    add("--threshold", type=float, metavar="0-1", help="evidence that an answer needs (default: calibrated)")
    add("--contract", default="", help="prompt contract of models that do not say theirs")
    add("-o", "--out", type=Path, metavar="FILE", help="write all figures and answers as JSON")
    add("-v", "--verbose", action="store_true", help="show every question with its answer")
    add("--json", action="store_true", help="print all figures as JSON instead of tables")
    add("--limit", type=int, default=0, metavar="N", help="the first N questions only")
    add("--fresh", action="store_true", help="ask and measure again, whatever was kept")
    add("--workers", type=int, metavar="N", help="questions at once (default 1)")
    add("--threads", type=int, metavar="N", help="CPU threads of a model that runs here")
    add("--offline", action="store_true", default=None, help="nothing leaves this machine")
    add("--rounds", type=int, default=2000, metavar="N", help="bootstrap resamples (default 2000)")
    add("--seed", type=int, default=0, help="of the bootstrap (default 0)")


def run(args: argparse.Namespace) -> int:
    """``eval.py ask``: exit 1 when a question failed or a model could not be scored (the others are)."""
    check(args)
    found, problems = report(args)
    import sys

    from finetune.evaluation.ask_report import tables
    from finetune.evaluation.output import give

    give(found, lambda: tables(found, rows=args.verbose), out=args.out, as_json=args.json)
    for problem in problems:
        print(problem, file=sys.stderr)
    return Exit.FAILED if problems else Exit.DONE


def check(args: argparse.Namespace) -> None:
    """Before any work. Raises UsageError for what means nothing, InputError for a package that is not there."""
    for name, least in (("limit", 0), ("passages", 1), ("rounds", 100), ("workers", 1), ("threads", 1), ("seed", 0)):
        if (value := getattr(args, name)) is not None and value < least:
            raise UsageError(f"--{name} {value} is too few", f"give {least} or more")
    if args.threshold is not None and not 0 <= args.threshold <= 1:
        raise UsageError(f"--threshold {args.threshold:g} is no number from 0 to 1", "for example --threshold 0.3")
    if args.out is not None and args.out.is_dir():
        raise UsageError(f"{args.out}: is a folder", "name a file in it")
    try:
        import rouge_score  # noqa: F401
        import sacrebleu  # noqa: F401
    except ImportError as error:
        raise InputError(f"eval.py ask needs {error.name}", "pip install 'marginalia[finetune]'") from None


def names_of(models: str) -> list[str]:
    """The models to score. Raises UsageError for none, or one that is named twice."""
    specs = [spec.strip() for spec in models.split(",") if spec.strip()]
    if not specs or len(set(specs)) != len(specs):
        raise UsageError(f"--models {models!r} names no model, or one twice", "separate names by commas")
    from finetune.evaluation.models import expand

    return expand(specs)


@dataclass(frozen=True)
class Measuring:
    """What all models of a run have in common."""

    pairs: list[Pair]
    desk: Desk
    how: How
    judge: Judge | None
    perplexity: bool
    rounds: int
    seed: int


def report(args: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """Everything that was measured, as plain data, and a line for each thing that failed.

    Raises the error of a model that cannot be opened where it is the first one: there is no comparison then.
    """
    from contextlib import ExitStack

    from finetune.evaluation.ask_gold import read_questions
    from finetune.evaluation.ask_judge import open_judge
    from finetune.evaluation.ask_source import How, library
    from harness.config import home, load_settings
    from harness.console import stderr_console

    specs, console = names_of(args.models), stderr_console()
    settings = load_settings({"workers": args.workers, "threads": args.threads, "offline": args.offline})
    pairs, remarks = read_questions(args.questions, limit=args.limit)
    for remark in remarks:
        console.print(remark, markup=False, highlight=False)
    how = How(settings, console, home() / "evaluation.db", args.passages, args.threshold, args.fresh, args.contract)
    models: list[dict[str, Any]] = []
    problems: list[str] = []
    with ExitStack() as stack:
        desk = stack.enter_context(library(pairs, args.papers, settings, console))
        judge = open_judge(args.judge, settings, how.journal, console) if args.judge else None
        if judge is not None:
            stack.callback(judge.model.close)
        shared = Measuring(pairs, desk, how, judge, not args.no_perplexity, args.rounds, args.seed)
        for number, spec in enumerate(specs, 1):
            console.print(f"{number}/{len(specs)} {spec}", style="dim", markup=False, highlight=False)
            try:
                models.append(scored(spec, shared))
            except MarginaliaError as error:
                if not models:
                    raise
                problems.append(f"{spec}: {error}")
                continue
            problems += _failures(models[-1])
    found = {
        "version": VERSION,
        "task": "ask",
        "set": args.set or args.questions[0].stem,
        "questions_sha256": [hashlib.sha256(path.read_bytes()).hexdigest() for path in args.questions],
        "questions": len(pairs),
        "unanswerable": sum(not pair.answered for pair in pairs),
        "judge": args.judge,
        "rounds": args.rounds,
        "seed": args.seed,
        "models": models,
    }
    return found | {"differences": compared(models, rounds=args.rounds, seed=args.seed)}, problems


def scored(spec: str, shared: Measuring) -> dict[str, Any]:
    """All figures of one model, and its answers."""
    from finetune.evaluation import ask_scores as scores
    from finetune.evaluation.ask_source import answers

    found, surprises = answers(spec, shared.pairs, shared.desk, shared.how, perplexity=shared.perplexity)
    judged = shared.judge.verdicts(shared.pairs, found.records) if shared.judge else [None] * len(shared.pairs)
    rows = []
    for pair, record, verdict, surprise in zip(shared.pairs, found.records, judged, surprises, strict=True):
        counts = scores.counts_of(pair, record)
        if surprise is not None:
            counts["surprise"], counts["tokens"] = surprise
        if verdict and "score" in verdict:
            counts["depth"], counts["judged"] = float(verdict["score"]), 1.0
        rows.append(_row(pair, record, counts, verdict))
    table = scores.matrix([row["counts"] for row in rows])
    measured = scores.estimates(table, rounds=shared.rounds, seed=shared.seed)
    return {
        "model": spec,
        "place": found.place,
        "digest": found.digest,
        "contract": found.contract,
        "scores": {name: one and one.rounded() for name, one in measured.items()},
        "latency": _latency(found),
        "failed": sum(bool(row["error"]) for row in rows),
        "not_judged": sum("error" in (row["judged"] or ()) for row in rows),
        "rows": rows,
    }


def _row(pair: Pair, record: Mapping[str, Any], counts: Mapping[str, float], verdict: Any) -> dict[str, Any]:
    return {
        "id": pair.id,
        "question": pair.question,
        "answered": pair.answered,
        "abstained": bool(record["abstained"]),
        "answer": record["answer"],
        "citations": record["citations"],
        "seconds": record.get("seconds"),
        "error": record.get("error") or "",
        "judged": verdict,
        "counts": dict(counts),
    }


def _latency(found: Answers) -> list[float] | None:
    """Seconds a question that half of all and that 95% of all stay below; None where no question was answered."""
    import numpy as np

    seconds = [record["seconds"] for record in found.records if record.get("seconds") is not None]
    return [round(float(value), 4) for value in np.percentile(seconds, [50, 95])] if seconds else None


def _failures(model: Mapping[str, Any]) -> list[str]:
    failed = [row for row in model["rows"] if row["error"]]
    lines = [f"{model['model']}: {len(failed)} questions failed, first {failed[0]['error']}"] if failed else []
    if count := model["not_judged"]:
        why = next(row["judged"]["error"] for row in model["rows"] if "error" in (row["judged"] or ()))
        lines.append(f"{model['model']}: {count} answers without a grade, first {why}")
    return lines


def compared(models: Sequence[Mapping[str, Any]], *, rounds: int, seed: int) -> list[dict[str, Any]]:
    """Every model against the first one: theirs minus the first's, in pairs, with a verdict where noise allows one."""
    from finetune.evaluation import ask_scores as scores

    tables = [scores.matrix([row["counts"] for row in model["rows"]]) for model in models]
    found = []
    for model, table in zip(models[1:], tables[1:], strict=True):
        apart = scores.differences(table, tables[0], rounds=rounds, seed=seed)
        known = {name: one for name, one in apart.items() if one is not None}
        found.append(
            {
                "model": model["model"],
                "against": models[0]["model"],
                "scores": {name: one and one.rounded() for name, one in apart.items()},
                "verdicts": {name: scores.verdict(name, one) for name, one in known.items()},
            }
        )
    return found
