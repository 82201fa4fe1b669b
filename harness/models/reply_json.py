"""The JSON that a model was asked for, out of what it wrote."""

from __future__ import annotations

import json
import re
from typing import Any

_FENCE = re.compile(r"```(?:json)?\s*(.*?)\s*```", re.DOTALL)
_THOUGHTS = re.compile(r"\s*<think>.*?</think>\s*", re.DOTALL)


def bare(text: str) -> str:
    """A reply without the thoughts before it and the Markdown fence around it.

    >>> bare('<think>Hm.</think>\\n```json\\n{"a": 1}\\n```')
    '{"a": 1}'
    """
    thoughts = _THOUGHTS.match(text)
    body = text[thoughts.end() if thoughts else 0 :].strip()
    fenced = _FENCE.fullmatch(body)
    return fenced[1] if fenced else body


def json_object(text: str) -> dict[str, Any]:
    """The JSON object that a reply is. Raises ValueError ``no JSON`` or ``no JSON object``."""
    try:
        value = json.loads(bare(text))
    except (ValueError, RecursionError):
        raise ValueError("no JSON") from None
    if not isinstance(value, dict):
        raise ValueError("no JSON object")
    return value
