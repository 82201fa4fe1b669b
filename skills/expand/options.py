"""The flags of /expand and what they mean."""

from __future__ import annotations

from dataclasses import dataclass

from harness.errors import UsageError
from harness.flags import column_flag, column_of
from harness.task import Flag, Task
from skills.expand.expansion import TYPES

FLAGS = (
    Flag("only", "the types that are wanted (as /only:TYPE behind a query)", choices=TYPES, repeat=True),
    Flag("intent", "what is meant, where the query alone leaves it open", metavar='"TEXT"'),
    Flag("corpus", "add a lex line of terms from your own indexed papers"),
    Flag("json", "show the records as JSON, one a line"),
    column_flag("query"),
    Flag("seed", "another expansion than the likeliest: sample, with this seed", metavar="N"),
    Flag("lines", "the model named by --model was tuned for expand@1, though the registry does not know it"),
    Flag("fresh", "do not take results from the journal"),
)
_HIGHEST_SEED = 2**31 - 1


@dataclass(frozen=True)
class ExpandOptions:
    """The flags, checked."""

    only: tuple[str, ...] = ()
    intent: str = ""
    corpus: bool = False
    json: bool = False
    column: str = ""
    seed: int | None = None
    lines: bool = False
    fresh: bool = False


def options_of(task: Task) -> ExpandOptions:
    """Options from a task. Raises UsageError for a value that means nothing."""
    flags = task.flags
    seed = str(flags.get("seed", ""))
    if seed and not (seed.isdecimal() and int(seed) <= _HIGHEST_SEED):
        raise UsageError(f"--seed {seed}: not a number from 0 to {_HIGHEST_SEED}", "for example --seed 7")
    only = flags.get("only", ())
    return ExpandOptions(
        only=only if isinstance(only, tuple) else (str(only),),
        intent=str(flags.get("intent", "")),
        corpus=bool(flags.get("corpus", False)),
        json=bool(flags.get("json", False)),
        column=column_of(str(flags.get("column", "")), "query"),
        seed=int(seed) if seed else None,
        lines=bool(flags.get("lines", False)),
        fresh=bool(flags.get("fresh", False)),
    )
