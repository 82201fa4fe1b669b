"""/annotate: papers in, annotation records out."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import Exit, InputError, MarginaliaError, UsageError
from harness.models.base import Model, Options
from harness.skills import Outcome
from harness.task import Task
from skills.annotate.options import FLAGS, AnnotateOptions, options_of

if TYPE_CHECKING:
    from harness.context import Context
    from harness.readers import PaperSource
    from harness.readers.paper import Paper
    from skills.annotate.batch import Batch
    from skills.annotate.record import Record

__all__ = ["FLAGS", "run"]

TASK = "annotate"


def run(task: Task, context: Context) -> Outcome:
    """Annotate what the task names, save or show it, keep it in the corpus. Exit 1 when a row failed, wholly or in part."""
    options = options_of(task)
    if options.review:
        from skills.annotate.review import review

        return review(options.review, options.gold, context)
    if task.save_to:
        from harness.outputs import check_target

        check_target(task.save_to, yes=context.settings.yes)
    source, papers = read(task, options, context)
    if task.save_to:
        check_not_input(task.save_to, papers)
    batch, model = annotate(papers, options, context)
    saved = save(task.save_to, batch.records, papers, source, options, context)
    remember(batch.records, papers, source, context)
    report(batch, options, saved, context)
    return Outcome(
        text="" if saved else jsonl(batch.records) if options.json else markdown(batch.records, options),
        records=batch.records,
        plain=options.json,
        exit=Exit.FAILED if batch.failed or batch.partial else Exit.DONE,
        saved=saved,
        model=model.info,
        prompt_tokens=batch.prompt_tokens,
        completion_tokens=batch.completion_tokens,
        context_used=batch.context_used,
        details={"papers": len(papers), "failed": batch.failed, "partial": batch.partial, "cached": batch.summary.cached},
    )


def read(task: Task, options: AnnotateOptions, context: Context) -> tuple[PaperSource, list[Paper]]:
    """The papers of the task's input, all of them: the context is chosen for the largest."""
    from harness.readers import open_papers

    piped = context.stdin if task.text in ("", "-") else None  # looking at it waits for the other end
    if not task.text and piped is None:
        raise UsageError("/annotate: nothing to annotate", "for example /annotate papers.csv save to annotated.csv")
    source = open_papers(
        task.text,
        columns=dict(options.columns),
        stdin=piped,
        offline=context.settings.offline,
        corpus=options.papers,
        limit=options.limit,
        tell=lambda line: say(line, context),
    )
    papers = list(islice(source.papers, options.limit or None))
    for note in source.remarks(verbose=context.settings.verbose):
        say(note, context)
    if not papers:
        raise InputError(f"{source.name}: holds no papers")
    return source, papers


def say(line: str, context: Context) -> None:
    """One line on stderr, as it is: it may name files and papers."""
    context.console.print(line, markup=False, highlight=False, soft_wrap=True)


def check_not_input(path: Path, papers: Sequence[Paper]) -> None:
    """Raises UsageError where a result would take the place of a file it is made from: rows and fields would be lost."""
    if not path.exists():
        return
    for name in dict.fromkeys(paper.source for paper in papers):
        if Path(name).is_file() and path.samefile(name):
            raise UsageError(f"{path}: is the input, which is never replaced", "choose another name")


def annotate(papers: Sequence[Paper], options: AnnotateOptions, context: Context) -> tuple[Batch, Model]:
    """Annotate papers with the model that serves the task here."""
    from skills.annotate.annotator import make_annotator
    from skills.annotate.batch import annotate_all

    framework = options.framework
    general = options.style == "prose" or options.own_moves
    model = context.open_model(TASK, general=general)
    serving = serving_of(model)
    annotator = make_annotator(
        model, framework, prose=options.style == "prose", serving=serving, options=Options(temperature=0.0)
    )
    salt: list[Any] = [serving]
    if options.fresh:
        from secrets import token_hex

        salt.append(token_hex(8))
    batch = annotate_all(papers, annotator, model, framework, context, style=options.style, salt=salt)
    return batch, model


def serving_of(model: Model) -> Mapping[str, Any]:
    """Thresholds and calibration of the model's registry entry; empty for a model that has none."""
    from harness.registry import find

    entry = find(model.info.name) if model.info.contract else None
    return entry.serving if entry else {}


def save(
    path: Path | None,
    records: Sequence[Record],
    papers: Sequence[Paper],
    source: PaperSource,
    options: AnnotateOptions,
    context: Context,
) -> list[str]:
    """Write the records where the task says; the names of the files written."""
    if path is None:
        return []
    from harness.outputs import write_records

    write_records(
        path,
        records,
        moves=options.framework.names,
        rows=[paper.row for paper in papers],
        fieldnames=source.fieldnames,
        title=f"{options.framework.title}: {Path(source.name).name}",
        overwrite=context.settings.yes,
    )
    return [str(path)]


def remember(records: Sequence[Record], papers: Sequence[Paper], source: PaperSource, context: Context) -> None:
    """Add what was annotated to the corpus; a corpus that cannot be written is said, not fatal: the result stands."""
    from harness.corpus import Corpus, corpus_path

    try:
        with Corpus(corpus_path()) as corpus:
            corpus.add(records, [paper.row for paper in papers], source=source.name)
    except MarginaliaError as error:
        say(f"not added to the corpus: {error}", context)


def report(batch: Batch, options: AnnotateOptions, saved: Sequence[str], context: Context) -> None:
    """The summary on stderr; a single paper that went well needs none but its file."""
    from skills.annotate.summary import summary_lines

    lines = summary_lines(batch, options.framework.names, saved)
    if len(batch.records) == 1 and not batch.failed and not batch.partial:
        lines = lines[1:]
    if context.settings.verbose:
        lines += [f"{record['id']}: {record['error']}" for record in batch.records if record["error"]]
    for line in lines:
        say(line, context)


def markdown(records: Sequence[Record], options: AnnotateOptions) -> str:
    """The records as Markdown for people."""
    from harness.annotation_tables import Annotations, write_markdown

    out = io.StringIO()
    write_markdown(out, Annotations(records=records, moves=options.framework.names))
    return out.getvalue()


def jsonl(records: Sequence[Record]) -> str:
    """The records for machines, one JSON object a line."""
    from harness.console import json_line

    return "\n".join(map(json_line, records))
