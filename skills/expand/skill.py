"""/expand: queries in, lines for full-text and vector search out."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from harness.errors import Exit
from harness.skills import Outcome
from harness.task import Task
from skills.expand.options import FLAGS, ExpandOptions, options_of

if TYPE_CHECKING:
    from harness.context import Context
    from harness.models.base import ModelInfo
    from skills.expand.batch import Batch
    from skills.expand.queries import QuerySource

__all__ = ["FLAGS", "run"]

TASK = "expand"
REASONS_SHOWN = 5
"""How many reasons of failures are named."""


def run(task: Task, context: Context) -> Outcome:
    """Expand what the task names, save or show it. Exit 1 when a query failed."""
    from skills.expand import files

    options = options_of(task)
    if task.save_to:
        from harness.outputs import check_target

        check_target(task.save_to, yes=context.settings.yes, suffixes=files.WRITERS)
    source = read(task, options, context)
    batch, model = expand(source, options, context)
    saved = []
    if task.save_to:
        files.save(task.save_to, batch.records, source, overwrite=context.settings.yes)
        saved = [str(task.save_to)]
    report(batch, source, saved, context)
    return Outcome(
        text=files.jsonl_of(batch.records) if options.json else files.text_of(batch.records),
        plain=True,
        records=batch.records,
        exit=Exit.FAILED if batch.failed else Exit.DONE,
        saved=saved,
        model=model,
        prompt_tokens=batch.prompt_tokens,
        completion_tokens=batch.completion_tokens,
        context_used=batch.context_used,
        details={
            "queries": len(batch.records),
            "failed": batch.failed,
            "removed": batch.reasons,
            "cached": batch.summary.cached,
        },
    )


def read(task: Task, options: ExpandOptions, context: Context) -> QuerySource:
    """The queries of the task's input, all of them: the context is chosen for the largest."""
    from skills.expand.queries import open_queries

    text = task.text.lstrip(" :,") if task.why else task.text  # "expand the query: auth config"
    source = open_queries(text, lambda: context.stdin, options)
    say(source.notes, context)
    return source


def expand(source: QuerySource, options: ExpandOptions, context: Context) -> tuple[Batch, ModelInfo]:
    """Expand the queries with the model that serves the task here; the batch, and which model it was."""
    from skills.expand.batch import expand_all
    from skills.expand.corpus import open_corpus
    from skills.expand.expander import make_expander, options_for

    with ExitStack() as stack:
        corpus = stack.enter_context(open_corpus(context.settings)) if options.corpus else None
        model = context.open_model(TASK)
        expander = make_expander(model, options_for(options.seed), lines=options.lines)
        salt: list[Any] = [options.seed]
        if options.fresh:
            from secrets import token_hex

            salt.append(token_hex(8))
        return expand_all(source.rows, expander, model, context, salt=salt, corpus=corpus), model.info


def report(batch: Batch, source: QuerySource, saved: Sequence[str], context: Context) -> None:
    """What happened, on stderr: the lines that were removed, and for a file of queries the summary."""
    from harness.jobs.progress import duration

    summary, total = batch.summary, len(batch.records)
    lines = []
    if source.name:
        counts = [f"{total - batch.failed} of {total} queries expanded"]
        counts += [f"{summary.cached} of them known already"] if summary.cached else []
        counts += [f"{batch.failed} failed"] if batch.failed else []
        lines.append(f"{', '.join(counts)} in {duration(summary.seconds)}")
    if batch.reasons:
        number = sum(batch.reasons.values())
        named = ", ".join(f"{why} {count}" for why, count in batch.reasons.items())
        lines.append(f"removed {number} line{'s' * (number > 1)} of the model: {named}")
    if context.settings.verbose:
        lines += [f"  {one.why}: {one.text}" for removed in batch.removed for one in removed]
    lines += [f"  {count} × {reason}" for reason, count in summary.reasons.most_common(REASONS_SHOWN)]
    say([*lines, *(f"saved {path}" for path in saved)], context)


def say(lines: Sequence[str], context: Context) -> None:
    """Lines on stderr, as they are."""
    for line in lines:
        context.console.print(line, markup=False, highlight=False, soft_wrap=True)
