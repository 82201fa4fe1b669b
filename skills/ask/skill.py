"""/ask: a question in, an answer from the user's papers out, with sources that can be looked up."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from harness.errors import Exit
from harness.skills import Outcome
from harness.task import Task
from skills.ask.options import FLAGS, options_of

if TYPE_CHECKING:
    from harness.context import Context

__all__ = ["FLAGS", "run"]


def run(task: Task, context: Context) -> Outcome:
    """Answer the task's question, or a file of them. Exit 1 when one failed; "not answered" is an answer."""
    from skills.ask import render
    from skills.ask.asking import Asking, say
    from skills.ask.questions import open_questions

    options = options_of(task)
    if task.save_to:
        from harness.outputs import check_target

        check_target(task.save_to, yes=context.settings.yes, suffixes=render.WRITERS)
    source = open_questions(task.text.lstrip(" :,") if task.why else task.text, lambda: context.stdin, options.column)
    say(source.notes, context)
    with ExitStack() as stack:
        asking = Asking(options, context, stack)
        records = asking.batch(source) if source.name else [asking.single(source.rows[0].text)]
    saved = []
    if task.save_to:
        render.save(task.save_to, records, source, overwrite=context.settings.yes)
        saved = [str(task.save_to)]
        say([f"saved {task.save_to}"], context)
    failed = sum(bool(record.get("error")) for record in records)
    meters = list(asking.meters.values())
    return Outcome(
        text=render.jsonl_of(records) if options.json else render.all_text(records),
        plain=True,
        records=records,
        exit=Exit.FAILED if failed else Exit.DONE,
        saved=saved,
        model=meters[-1].info if meters else None,
        prompt_tokens=sum(meter.prompt_tokens for meter in meters),
        completion_tokens=sum(meter.completion_tokens for meter in meters),
        context_used=max((meter.largest for meter in meters), default=0),
        details={
            "questions": len(records),
            "abstained": sum(record["abstained"] for record in records),
            "failed": failed,
        },
    )
