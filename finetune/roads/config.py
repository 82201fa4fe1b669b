"""The configuration of an annotator's road: one YAML file, unknown keys refused, paths relative to the working folder."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from harness.errors import InputError, UsageError
from harness.registry_entry import normalise

CONTRACTS = ("mark", "quote", "prose")


@dataclass(frozen=True)
class RoadConfig:
    """Every value of a road."""

    name: str = ""
    """What the registry will call the model: NAME:TAG."""
    out: str = ""
    """The folder of everything that the road makes."""
    train: str = ""
    """The trainer's configuration; its ``data``, ``out`` and ``contract`` are the road's."""
    gold: tuple[str, ...] = ()
    """Labels by people, one file or several."""
    held_out: str = ""
    """The evaluation set: no paper of it is trained on, and the model is scored on it."""
    contract: str = "mark"
    agent: tuple[str, ...] = ()
    """Annotations of a model; the curator chooses among them."""
    abstracts: tuple[str, ...] = ()
    """Where labels without abstracts find them: files, or ``arxiv``."""
    unlabelled: str = ""
    """Abstracts for the loop: CSV or JSON lines, packed or not."""
    valid: float = 0.1
    limit: int = 0
    """Use only so many of the gold papers; 0: all."""
    seed: int = 1
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Values of the trainer's configuration to change."""
    types: tuple[str, ...] = ("f16", "q8_0", "q4_K_M")
    score: tuple[str, ...] = ("adapter", "merged", "gguf")
    """Which of its forms to score; the adapter and the merged model run in torch, which is slow for large ones on a CPU."""
    compare: tuple[str, ...] = ()
    """Models to score beside it: registry names, Ollama tags, GGUF files."""
    linear: bool = True
    """Score the linear baseline too."""
    minimum: float = 0.0
    """Macro-F1 on ``held_out`` below which the model is never served, whatever is served now."""
    promote: bool = True
    """Serve the model if it passes the gate; else it stays a candidate."""
    minutes: Mapping[str, float] = field(default_factory=dict)
    """What each step took where the road was written: for the plan."""

    @property
    def folder(self) -> Path:
        """Of everything that the road makes."""
        return Path(self.out)


_KNOWN = {f.name: f for f in fields(RoadConfig)}
_LISTS = ("gold", "agent", "abstracts", "types", "score", "compare")
FORMS = ("adapter", "merged", "gguf")
_NEEDED = ("name", "out", "train", "gold", "held_out")


def load(path: Path) -> RoadConfig:
    """Read a configuration. Raises InputError for the file, UsageError for a key or value."""
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})", "give a road of finetune/configs") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: is no YAML ({' '.join(str(error).split())})", "correct it") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: holds no key: value lines", "see finetune/configs/road-annotator-mini.yaml")
    return parse(values, str(path))


def parse(values: Mapping[str, Any], where: str) -> RoadConfig:
    """A configuration from plain values; ``where`` names their source. Raises UsageError."""
    for name in values:
        if name not in _KNOWN:
            near = difflib.get_close_matches(str(name), _KNOWN, 1, 0.5)
            remedy = f"did you mean {near[0]}?" if near else f"known: {', '.join(_KNOWN)}"
            raise UsageError(f"{where}: unknown key {name!r}", remedy)
    config = RoadConfig(**{name: _coerce(name, value, where) for name, value in values.items()})
    if missing := [name for name in _NEEDED if not getattr(config, name)]:
        raise UsageError(f"{where}: {missing[0]} is missing", "give it")
    if config.contract not in CONTRACTS:
        raise UsageError(f"{where}: contract: {config.contract!r} is none", f"one of {', '.join(CONTRACTS)}")
    if not config.score or not set(config.score) <= set(FORMS):
        raise UsageError(f"{where}: score: {', '.join(config.score)} is not known", f"any of {', '.join(FORMS)}")
    if not 0 < config.valid < 1:
        raise UsageError(f"{where}: valid: {config.valid} is no share of the papers", "give a number above 0 and below 1")
    if not 0 <= config.minimum <= 1:
        raise UsageError(f"{where}: minimum: {config.minimum} is no macro-F1", "give a number between 0 and 1")
    if config.limit < 0:
        raise UsageError(f"{where}: limit: {config.limit} is below 0", "give 0 for all papers")
    if taken := {"data", "out", "contract"} & set(config.settings):
        raise UsageError(f"{where}: settings: {sorted(taken)[0]} is chosen by the road", "leave it out")
    normalise(config.name)
    return config


def _coerce(name: str, value: Any, where: str) -> Any:
    kind = str(_KNOWN[name].type)
    if name in _LISTS:
        value = [value] if isinstance(value, str) else value
        fits = isinstance(value, list) and all(isinstance(item, str) and item for item in value)
        value, what = tuple(value) if fits else value, "a list of texts"
    elif kind.startswith("Mapping"):
        fits, what = isinstance(value, dict) and all(isinstance(key, str) for key in value), "key: value lines"
        if name == "minutes":
            fits = fits and all(isinstance(v, int | float) and not isinstance(v, bool) for v in value.values())
    elif kind == "bool":
        fits, what = isinstance(value, bool), "true or false"
    elif kind == "str":
        fits, what = isinstance(value, str), "a text"
    else:
        fits = isinstance(value, int if kind == "int" else int | float) and not isinstance(value, bool)
        what = "a whole number" if kind == "int" else "a number"
    if not fits:
        raise UsageError(f"{where}: {name}: {value!r} is not {what}", "correct it")
    return value
