"""``finetune/eval.py expand``: scores of models of /expand by both rewards, on judged queries, and by retrieval."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.arguments import Parser
from harness.errors import Exit, InputError, UsageError

if TYPE_CHECKING:
    from finetune.evaluation.expansion_queries import EvalQuery, Judged
    from finetune.evaluation.expansion_source import Answers, How
    from finetune.rewards.strict import StrictReward
    from harness.search.evaluate import Collection
    from skills.expand.prompt import Query

VERSION = 1
HELP = """Scores of expansions, by category of queries.

    python finetune/eval.py expand --model qmd-expand:mini --train finetune_output/expansion/train.jsonl -o s.json
    python finetune/eval.py expand --model grpo/adapter --sft-model sft/adapter --raw -v
    python finetune/eval.py expand --model qmd-expand:mini --judged judged.jsonl --retrieval ../shared/data/retrieval
    python finetune/eval.py expand --score-only expansions.jsonl

A model is a registry name, an Ollama tag, a GGUF file, a folder of save_pretrained or of a PEFT adapter, a .jsonl file of
expansions that were made before (rows of a data set, or records of /expand), or "fixed-template", which knows nothing and
scores high by the upstream rubric: compare with it. Where --model and --sft-model are adapters of one base, as the cloud
scripts write them, the latter is merged in first: GRPO was trained on the merged weights.

The score is the percentage of the published rubric (rewards/SCORING.md); the strict reward and the check for leaks need the
training rows (--train). What is scored is what /expand serves; --raw scores what the model writes by itself, greedy and
without a grammar, as upstream does.

Answers are kept: a run that was killed goes on where it stopped. Exit 0 done, 1 a query got no expansion, 2 wrong usage,
3 no model can run here.
"""


def add_to(tasks: Any) -> None:
    """Add the sub-command to those of finetune/eval.py."""
    task: Parser = tasks.add_parser("expand", help="score expansions of queries", description=HELP)
    task.set_defaults(run=run)
    source = task.add_mutually_exclusive_group(required=True)
    source.add_argument("--model", metavar="REF", help="what is scored")
    source.add_argument("--score-only", type=Path, metavar="FILE", help="score the expansions in a .jsonl file")
    task.add_argument("--sft-model", metavar="REF", help="the model before GRPO: compared in pairs, and merged in first")
    task.add_argument("--queries", type=Path, metavar="FILE", help="one a line under '# category: NAME' (default: ours)")
    task.add_argument("--train", type=Path, action="append", default=[], metavar="FILE", help="JSONL of training rows")
    task.add_argument("--judged", type=Path, metavar="FILE", help="JSONL of queries with must_keep, good_terms, bad_terms")
    task.add_argument("--retrieval", type=Path, metavar="DIR", help="BEIR folder, or a folder of some")
    task.add_argument("--corpus", action="store_true", help="with --retrieval: terms of the corpus join the question, too")
    task.add_argument("--raw", action="store_true", help="no grammar, filters and second questions")
    task.add_argument("--contract", default="", help="prompt contract of models that do not say theirs")
    task.add_argument("-o", "--out", type=Path, metavar="FILE", help="write all figures and expansions as JSON")
    task.add_argument("-v", "--verbose", action="store_true", help="show every query with its expansion and deductions")
    task.add_argument("--json", action="store_true", help="print all figures as JSON instead of tables")
    task.add_argument("--limit", type=int, default=0, metavar="N", help="the first N queries of each set only")
    task.add_argument("--fresh", action="store_true", help="ask again, whatever was kept")
    task.add_argument("--workers", type=int, metavar="N", help="requests at once (default: what the backend can do)")
    task.add_argument("--threads", type=int, metavar="N", help="CPU threads of a model that runs here")
    task.add_argument("--offline", action="store_true", default=None, help="nothing leaves this machine")
    task.add_argument("--seed", type=int, default=0, help="of the bootstrap (default 0)")


@dataclass
class Sets:
    """What is to be expanded, and for what."""

    queries: list[EvalQuery]
    judged: list[Judged] = field(default_factory=list)
    collections: list[Collection] = field(default_factory=list)
    corpus: bool = False
    """Whether terms of the corpus join the queries of collections."""
    found_in: Path | None = None
    """The file of queries."""

    def all(self) -> list[Query]:
        """Every query once."""
        from finetune.evaluation.expansion_retrieval import query_of

        texts = [text for collection in self.collections for text in collection.queries.values()]
        found = [one.query for one in self.queries] + [one.query for one in self.judged]
        return list(dict.fromkeys(found + [query for text in texts if (query := query_of(text))]))


def run(args: argparse.Namespace) -> int:
    """``eval.py expand``: exit 1 when a query got no expansion."""
    if args.corpus and not args.retrieval:
        raise UsageError("--corpus goes with --retrieval", "add --retrieval DIR")
    for name, least in (("limit", 0), ("workers", 1), ("threads", 1), ("seed", 0)):
        if (value := getattr(args, name)) is not None and value < least:
            raise UsageError(f"--{name} {value} is too few", f"give {least} or more")
    if args.out is not None and args.out.is_dir():
        raise UsageError(f"{args.out}: is a folder", "name a file in it")
    if args.score_only is not None and args.score_only.suffix.lower() != ".jsonl":
        raise UsageError(f"{args.score_only}: expansions are read from .jsonl", "name such a file")
    found = report(args)
    from finetune.evaluation.expansion_report import tables
    from finetune.evaluation.output import give

    give(found, lambda: tables(found, rows=args.verbose), out=args.out, as_json=args.json)
    return Exit.FAILED if any(model["all"]["failed"] for model in found["models"]) else Exit.DONE


def report(args: argparse.Namespace) -> dict[str, Any]:
    """Everything that was measured, as plain data. Raises InputError, NoModelError, ModelError."""
    from finetune.evaluation.expansion_adapters import merged_after
    from finetune.evaluation.expansion_scores import paired
    from finetune.evaluation.expansion_source import How
    from harness.config import home, load_settings
    from harness.console import stderr_console

    settings = load_settings({"workers": args.workers, "threads": args.threads, "offline": args.offline})
    console = stderr_console()
    how = How(settings, console, home() / "evaluation.db", raw=args.raw, fresh=args.fresh, contract=args.contract)
    sets = read_sets(args)
    strict, training = read_training(args.train)
    if strict is None:
        console.print("the strict reward is left out: it needs the training rows (--train FILE)", style="dim")
    first, before = str(args.score_only) if args.score_only else args.model, args.sft_model or ""
    with merged_after(first, before) as opened:
        models = [scored(opened, sets, how, strict, training, seed=args.seed, name=first)]
    if before:
        models.append(scored(before, sets, how, strict, training, seed=args.seed))
    found: dict[str, Any] = {
        "version": VERSION,
        "task": "expand",
        "set": sets.found_in.stem if sets.found_in else "",
        "queries_sha256": hashlib.sha256(sets.found_in.read_bytes()).hexdigest() if sets.found_in else "",
        "seed": args.seed,
        "models": models,
    }
    if len(models) > 1:
        found["differences"] = paired(models[0]["rows"], models[1]["rows"], seed=args.seed)
        found["against"] = models[1]["model"]
    return found


def read_sets(args: argparse.Namespace) -> Sets:
    """The queries of all sets that were asked for. Without ``--queries`` a file of expansions brings its own."""
    from finetune.evaluation import expansion_queries as queries
    from finetune.evaluation.expansion_retrieval import load_collections
    from finetune.evaluation.expansion_source import read_expansions

    path = args.queries or queries.DEFAULT
    if args.score_only and not args.queries:
        own = {one.query: one for one in queries.read_queries(queries.DEFAULT)}
        wanted = [own.get(query, queries.EvalQuery(query)) for query in read_expansions(args.score_only)]
        path = args.score_only
    else:
        wanted = queries.read_queries(path)
    most = args.limit or None
    return Sets(
        wanted[:most],
        queries.read_judged(args.judged)[:most] if args.judged else [],
        load_collections(args.retrieval, args.limit) if args.retrieval else [],
        args.corpus,
        path,
    )


def read_training(paths: Sequence[Path]) -> tuple[StrictReward | None, list[str]]:
    """The strict reward with training rows as its background, and their queries; nothing without any."""
    if not paths:
        return None, []
    from finetune.dataset.expansion_schema import load_examples
    from finetune.rewards.background import Background
    from finetune.rewards.strict import StrictReward

    examples = load_examples(paths)
    background = Background.fit((example.full_query, example.output) for example in examples)
    return StrictReward(background), [example.full_query for example in examples]


def scored(
    spec: str, sets: Sets, how: How, strict: StrictReward | None, training: Sequence[str], *, seed: int, name: str = ""
) -> dict[str, Any]:
    """All figures of one model, which the report calls ``name`` where its folder has another."""
    from finetune.evaluation import expansion_scores as scores
    from finetune.evaluation.expansion_queries import in_training
    from finetune.evaluation.expansion_source import expansions

    wanted = sets.all()
    how.console.print(f"{name or spec}: {len(wanted)} queries", style="dim", markup=False, highlight=False)
    answers = expansions(spec, wanted, how)
    of = dict(zip(wanted, answers.expanded, strict=True))
    rows = [scores.row_of(one, of[one.query], strict) for one in sets.queries]
    found: dict[str, Any] = {
        **{key: value for key, value in asdict(answers).items() if key not in ("name", "expanded")},
        "model": name or spec,
        "raw": how.raw and answers.place not in ("file", "template"),
        "all": scores.summary(rows, seed=seed),
        "categories": scores.by_category(rows, seed=seed),
    }
    if training:
        seen = in_training(sets.queries, training)
        fresh = [row for row, one in zip(rows, sets.queries, strict=True) if one.query not in seen]
        found["in_training"] = len(seen)
        found["unseen"] = scores.summary(fresh, seed=seed) if seen and fresh else None
    if sets.judged:
        found["judged"] = scores.judged_scores(sets.judged, [of[one.query] for one in sets.judged], seed=seed)
    if sets.collections:
        found["retrieval"] = retrieval(sets, of, answers, seed=seed)
    return found | {"rows": rows}


def retrieval(sets: Sets, of: Mapping[Query, Any], answers: Answers, *, seed: int) -> dict[str, dict[str, Any]]:
    """The figures of each collection. Raises InputError where a file of expansions has none for a collection."""
    from finetune.evaluation.expansion_retrieval import lines_for_search, measure, query_of
    from harness.search.feedback import Feedback
    from harness.search.search import Plan

    plan = Plan(feedback=Feedback() if sets.corpus else None)
    found = {}
    for collection in sets.collections:
        queries = {text: query_of(text) for text in collection.queries.values()}
        lines = {text: lines_for_search(of[query].lines) for text, query in queries.items() if query}
        if not any(lines.values()):
            raise InputError(f"{answers.name}: has no expansion of a query of {collection.name}", "leave out --retrieval")
        found[collection.name] = measure(collection, lines, plan, seed=seed)
    return found
