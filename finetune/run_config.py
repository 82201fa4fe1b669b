"""How the values of a training run are read: one frozen dataclass, from YAML and ``--set key=value``, each value checked.

The dataclass is the one list of keys; a key that it lacks, or a value that does not fit its field, is one clear line.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, field, fields
from pathlib import Path
from typing import Any, Protocol, TypeVar

from harness.errors import InputError, UsageError

C = TypeVar("C")
_CHOICES = "choices"
_WANTS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text"}


class RunConfig(Protocol):
    """What checkpoints ask of a run's configuration, which is a dataclass beside."""

    @property
    def may_change(self) -> frozenset[str]:
        """Names of values that may differ between a checkpoint and the run that goes on from it."""


def one_of(default: str, *others: str) -> Any:
    """A text field that takes ``default`` or one of ``others``."""
    return field(default=default, metadata={_CHOICES: (default, *others)})


def _number(value: Any) -> float:
    """YAML reads ``2e-4`` as text, so a text that is a number counts as one."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _coerce(known: Field[Any], value: Any, where: str) -> Any:
    """A value as the type of its field. Raises UsageError that says what the field takes."""
    kind, choices = str(known.type), known.metadata.get(_CHOICES, ())
    try:
        if kind == "bool":
            return {"true": True, "false": False}[str(value).lower()]
        if kind == "float":
            return _number(value)
        if kind == "int":
            if not (number := _number(value)).is_integer():
                raise ValueError
            return int(number)
        if kind == "str":
            text = "none" if value is None and "none" in choices else str("" if value is None else value)
            if isinstance(value, list | dict) or (choices and text not in choices):
                raise ValueError
            return text
        names = value.replace(",", " ").split() if isinstance(value, str) else value
        if not names or not isinstance(names, list | tuple) or not all(isinstance(n, str) for n in names):
            raise ValueError
        if choices and not set(names) <= set(choices):
            raise ValueError
        return tuple(names)
    except (KeyError, ValueError):
        wants = f"one of {', '.join(c or 'nothing' for c in choices)}" if choices else _WANTS.get(kind, "a list of names")
        raise UsageError(f"{where}: {known.name}: {value!r} is not {wants}", "correct it") from None


def _known(kind: type[Any], name: Any, where: str) -> Field[Any]:
    known = {one.name: one for one in fields(kind)}
    if name not in known:
        near = difflib.get_close_matches(str(name), known, 1, 0.5)
        remedy = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
        raise UsageError(f"{where}: unknown key {name!r}", remedy)
    return known[name]


def build(kind: type[C], values: Mapping[str, Any], where: str, *, positive: Iterable[str], shares: Iterable[str]) -> C:
    """The dataclass from plain values. ``where`` names their source in messages.

    Numbers below 0 are refused, and 0 for ``positive`` ones and 1 for ``shares``. Raises UsageError.
    """
    config = kind(**{name: _coerce(_known(kind, name, where), value, where) for name, value in values.items()})
    for known in fields(kind):  # type: ignore[arg-type]
        value = getattr(config, known.name)
        if not isinstance(value, int | float) or isinstance(value, bool):
            continue
        if value < 0 or (known.name in positive and value == 0):
            raise UsageError(f"{where}: {known.name}: {value} is too small", "give a number above 0")
        if known.name in shares and value >= 1:
            raise UsageError(f"{where}: {known.name}: {value} is no share", "give a number from 0 to below 1")
    return config


def load(kind: type[C], parse: Callable[[Mapping[str, Any], str], C], path: Path, overrides: Iterable[str]) -> C:
    """Read YAML; each override is ``key=value`` and wins over the file. Raises InputError for the file, UsageError else."""
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})", "give a file of finetune/configs") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: is no YAML ({' '.join(str(error).split())})", "correct it") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: holds no key: value lines", "see finetune/configs")
    changes: dict[str, Any] = {}
    for override in overrides:
        name, equals, text = override.partition("=")
        if not equals:
            raise UsageError(f"--set {override}: has no '='", "write --set key=value")
        changes[name] = _coerce(_known(kind, name, "--set"), text, "--set")
    parse(values, str(path))  # the file must be right on its own, and is named where it is not
    return parse({**values, **changes}, str(path))


def plain(config: Any) -> dict[str, Any]:
    """The values as YAML and JSON know them."""
    values = {one.name: getattr(config, one.name) for one in fields(config)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def changed(config: Any, earlier: Mapping[str, Any], may_change: Iterable[str]) -> list[str]:
    """Names of the values that matter to a step and differ from those of an earlier run."""
    now, free = plain(config), frozenset(may_change)
    return [name for name in now if name not in free and name in earlier and earlier[name] != now[name]]
