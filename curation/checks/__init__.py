"""The deterministic checks: facts about an annotation that need no model, one idea a file.

Each check is a pure function from an annotation to its findings. They are tuned to stay silent: what they say, a
person who looks should agree with. Thresholds were chosen on the design half of the training gold.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path

from curation.annotation import Annotation
from curation.checks import (
    debris,
    invented_name,
    invented_number,
    language,
    negation,
    record,
    swallowed,
    swapped_fields,
    title_copied,
    unfounded,
    unstated_limitation,
)
from curation.checks.finding import Finding

Check = Callable[[Annotation], Iterable[Finding]]

CHECKS: Mapping[str, Check] = {
    record.EMPTY: record.check_empty,
    record.MISQUOTED: record.check_misquoted,
    invented_number.NAME: invented_number.check,
    invented_name.NAME: invented_name.check,
    swapped_fields.NAME: swapped_fields.check,
    unfounded.VAGUE: unfounded.check_vague,
    unfounded.FOREIGN: unfounded.check_foreign,
    negation.NAME: negation.check,
    title_copied.NAME: title_copied.check,
    swallowed.SWALLOWED: swallowed.check_swallowed,
    swallowed.REPEATED: swallowed.check_repeated,
    unstated_limitation.NAME: unstated_limitation.check,
    debris.TRUNCATED: debris.check_truncated,
    debris.DEBRIS: debris.check_debris,
    language.NAME: language.check,
}
"""Name → check, in the order in which findings are told."""


def findings(annotation: Annotation) -> list[Finding]:
    """Everything the checks have to say of an annotation."""
    return [finding for check in CHECKS.values() for finding in check(annotation)]


@cache
def version() -> str:
    """Hash of all that the checks follow from (their code, the text tools, the cue weights): nobody has to count it up."""
    here = Path(__file__).parent
    files = sorted(here.glob("*.py")) + [
        here.parent / name for name in ("annotation.py", "cues.py", "cues.json", "lexicon.toml", "text.py")
    ]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return f"sha256:{digest.hexdigest()[:16]}"
