"""What a sentence says of the passages' silence: "no passage mentions rye", "nothing is said about 12 weeks".

No quote can show that something is not there. Such a sentence is no finding that lacks support: it stands apart as a remark
that was not checked, and what it says to be missing is not looked for.
"""

from __future__ import annotations

import re

_TEXTS = r"(?:passages?|papers?|excerpts?|sources?|abstracts?|texts?)"
_SAY = (
    r"(?:say|state|mention|report|show|address|discuss|give|name|specify|describe|cover|study|examine|test|measure|compare"
    r"|tell|answer|support|establish|indicate|contain|provide|include|speak|explain|define|quantify|evaluate|consider"
    r"|investigate)"
)
_SAID = r"(?:said|stated|mentioned|reported|named|specified|described|discussed|addressed|covered)"
_SILENT = re.compile(
    rf"\b{_TEXTS}(?:\s+\w+){{0,3}}?\s+(?:(?:do|does|did)(?:\s+not|n['’]t)\s+(?:\w+ly\s+)?{_SAY}|say(?:s)?\s+nothing)\b"
    rf"|\b(?:no|none\s+of\s+(?:the|these|those)|nothing\s+in\s+(?:the|these|those))\s+(?:\w+\s+){{0,2}}?{_TEXTS}\b"
    rf"|\bnothing\s+(?:is|was|has\s+been)\s+{_SAID}\b"
    rf"|\b(?:is|are|was|were)(?:\s+not|n['’]t)\s+{_SAID}\b",
    re.IGNORECASE,
)
_CLAUSE_ENDS = re.compile(r"[,;:](?=\s)|[.?!](?=\s|$)|$")


def is_silence(text: str) -> bool:
    """Whether a sentence says that the passages do not say something.

    >>> [is_silence(text) for text in ("The papers do not mention rye.", "None of these papers has oats.", "Rye fell.")]
    [True, True, False]
    """
    return _SILENT.search(text) is not None


def without(text: str) -> str:
    """A sentence without what it says to be missing, each to the end of its clause.

    >>> without("Rye was cut after six weeks, so nothing is said about 12 weeks.")
    'Rye was cut after six weeks, so .'
    """
    parts, at = [], 0
    for match in _SILENT.finditer(text):
        if match.start() >= at:
            parts.append(text[at : match.start()])
            end = _CLAUSE_ENDS.search(text, match.end())
            at = end.start() if end else len(text)
    return "".join([*parts, text[at:]])
