"""The options of a build of the annotator's data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from finetune.dataset.contracts import NAMES, Contract
from harness.errors import UsageError
from skills.annotate.moves import DEFAULT

Paths = str | Path | Sequence[str | Path] | None


def as_paths(given: Paths) -> list[Path]:
    """One path, several or none as a list."""
    if given is None:
        return []
    return [Path(given)] if isinstance(given, str | Path) else [Path(path) for path in given]


@dataclass(frozen=True)
class Options:
    """How a data set is built. The same options and inputs give the same bytes."""

    contract: Contract = "quote"
    valid: float = 0.1
    """Share of the papers that are kept to validate with."""
    seed: int = 1
    limit: int | None = None
    """Use only so many of the gold papers, as if there were no others."""
    held_out: Paths = ()
    """Evaluation sets, none of whose papers may be trained on."""
    strict: bool = False
    """A paper of an evaluation set is an error; else it is left out."""
    abstracts: Paths = ()
    """Where labels without abstracts find them: files, or ``arxiv``."""
    offline: bool = False
    skip_bad: bool = False
    """Leave out rows that cannot be read; else the first one is an error."""
    keep_unfiltered: bool = False
    """Use agent rows beside curated ones; else those that the curator did not keep are left out."""
    labels: str | Path | None = None
    """For mark: ``labels.json`` of the model that will be trained on; else the labels come from the training papers."""
    least: int = 4
    """For mark: a set of moves gets a label of its own when so many training sentences carry it."""
    framework: str | Path = DEFAULT

    def check(self) -> None:
        """Raises UsageError for a value that cannot be."""
        if self.contract not in NAMES:
            raise UsageError(f"there is no contract {self.contract!r}", f"it can be {', '.join(NAMES)}")
        if not 0 <= self.valid < 1:
            raise UsageError(f"--valid {self.valid}: is no share of the papers", "give a number from 0 to below 1")
        for name, value in (("limit", self.limit), ("least", self.least)):
            if value is not None and value < 1:
                raise UsageError(f"--{name} {value}: is too small", "give 1 or more")

    @property
    def finds_labels(self) -> bool:
        """Whether the label vocabulary comes from the papers, which takes a reading of its own."""
        return self.contract == "mark" and self.labels is None
