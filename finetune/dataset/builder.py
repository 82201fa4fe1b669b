"""The annotator's data set: gold, curated and agent annotations made one set of training examples."""

from __future__ import annotations

import json
import math
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.dataset.card import SPLITS, Split
from finetune.dataset.contracts import Example
from finetune.dataset.inputs import ORDER, Abstracts, Advance, Input, Source, open_input
from finetune.dataset.options import Options, Paths, as_paths
from finetune.dataset.passes import Build
from harness.errors import InputError, UsageError
from skills.annotate.moves import load_framework

if TYPE_CHECKING:
    from rich.console import Console

_MEGABYTE = 1_000_000


class Dataset:
    """A data set on disk: ``train.jsonl``, ``valid.jsonl``, ``card.json``, and ``labels.json`` for contract mark.

    Iterating gives the examples, those to train on first, read as they are asked for; ``card`` says what they are.
    """

    def __init__(self, folder: Path, card: dict[str, Any], temporary: tempfile.TemporaryDirectory[str] | None) -> None:
        """``temporary`` is the folder where nobody named one; it is removed with the object."""
        self.folder, self.card, self._temporary = folder, card, temporary

    def __len__(self) -> int:
        return sum(self.card["examples"].values())

    def __iter__(self) -> Iterator[Example]:
        for split in SPLITS:
            yield from self.split(split)

    def split(self, split: Split) -> Iterator[Example]:
        """The examples of one split."""
        with (self.folder / f"{split}.jsonl").open(encoding="utf-8") as handle:
            for line in handle:
                yield json.loads(line)


def build_dataset(
    gold_csv: Paths,
    agent_csv: Paths,
    curated_csv: Paths = None,
    *,
    out: str | Path | None = None,
    console: Console | None = None,
    **options: Any,
) -> Dataset:
    """One example per paper: gold wins over everything, and curated rows replace the unfiltered agent rows.

    Each source is a file or several, or None: CSV or TSV as ``/annotate`` writes it, JSONL of ``/annotate``, gold JSONL,
    decisions of a review, or labels as in ``data/gold_labels.csv``. ``out`` is the folder to write; without one the data
    set lives as long as the object. ``options`` are the fields of ``Options``; ``console`` shows progress.

    Raises InputError, UsageError or Offline, each one line that names file, row and remedy.
    """
    chosen = Options(**options)
    chosen.check()
    framework = load_framework(Path(chosen.framework))
    join = Abstracts(as_paths(chosen.abstracts), offline=chosen.offline, console=console)
    given: dict[Source, Paths] = {"gold": gold_csv, "curated": curated_csv, "agent": agent_csv}
    inputs = [open_input(source, path, framework.names, join) for source in ORDER for path in as_paths(given[source])]
    if not inputs:
        raise UsageError("there are no annotations to build from", "name a file with --gold or --agent")
    temporary = tempfile.TemporaryDirectory(prefix="marginalia-dataset-") if out is None else None
    folder = Path(temporary.name if temporary else out or "")
    with ExitStack() as stack:
        advance = _meter(inputs, 3 if chosen.finds_labels else 2, stack, console) if console else _silent
        try:
            card = Build(inputs, framework, chosen, advance).run(folder)
        except sqlite3.OperationalError as error:
            remedy = "free some space there, or name another folder in TMPDIR"
            raise InputError(f"{tempfile.gettempdir()}: no room for temporary data ({error})", remedy) from None
    return Dataset(folder, card, temporary)


def _silent(size: int) -> None:
    """No progress is shown."""


def _meter(inputs: Sequence[Input], readings: int, stack: ExitStack, console: Console) -> Advance:
    """Progress in megabytes read: how large the files are is known beforehand, how many rows they have is not."""
    from harness.jobs.progress import Progress

    total = readings * sum(found.path.stat().st_size for found in inputs)
    progress = stack.enter_context(Progress(console, math.ceil(total / _MEGABYTE), "MB read"))
    read = done = 0

    def advance(size: int) -> None:
        nonlocal read, done
        read += size
        while read // _MEGABYTE > done:
            done += 1
            progress.advance()

    return advance
