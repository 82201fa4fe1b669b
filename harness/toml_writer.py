"""TOML out of plain values: the standard library reads it but does not write it. The same value gives the same text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f]")
_SHORT = {"\t": "\\t", "\n": "\\n"}


def dumps(values: Mapping[str, Any]) -> str:
    """``values`` as a TOML document that ``tomllib`` reads back as equal values, in the order given.

    Takes strings, booleans, integers, floats, lists (of anything but None) and mappings with string keys. Raises
    TypeError for anything else.
    """
    return "\n".join(_table(values, ())).lstrip("\n") + "\n"


def _table(values: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    """The plain values first: what follows a ``[table]`` line belongs to that table."""
    inner = {key: value for key, value in values.items() if isinstance(value, Mapping)}
    for key, value in values.items():
        if key not in inner:
            yield f"{_key(key)} = {_value(value)}"
    for key, value in inner.items():
        here = (*path, key)
        yield f"\n[{'.'.join(map(_key, here))}]"
        yield from _table(value, here)


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise TypeError(f"TOML keys are strings, not {type(key).__name__}")
    return key if _BARE.fullmatch(key) else _line(key)


def _value(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str():
            return _block(value) if "\n" in value else _line(value)
        case list() | tuple():
            return "[" + ", ".join(map(_value, value)) + "]"
        case Mapping():
            return "{" + ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items()) + "}"
    raise TypeError(f"TOML has no {type(value).__name__}")


def _escape(text: str) -> str:
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04X}", text.replace("\\", "\\\\"))


def _line(text: str) -> str:
    escaped = _escape(text).replace('"', '\\"')
    return '"' + "".join(_SHORT.get(character, character) for character in escaped) + '"'


def _block(text: str) -> str:
    """Several lines as several lines, so that a template can be read; no three quotes in a row, none at the end."""
    escaped = _escape(text).replace('""', '"\\"')
    return '"""\n' + re.sub(r'(?<!\\)"\Z', '\\"', escaped) + '"""'
