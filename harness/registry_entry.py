"""One entry of the registry: what it says, how it is read from TOML with every problem named, how it is written."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Literal, get_args

from harness.errors import UsageError
from harness.toml_writer import dumps

Status = Literal["candidate", "active", "retired"]

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}")
_TASK = re.compile(r"[a-z][a-z0-9-]*")
_CONTRACT = re.compile(r"[a-z][a-z0-9-]*(?:/[a-z][a-z0-9-]*)?@[0-9]+")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_QUANTISED = re.compile(r"(?:^|-)(q\d\w*|b?f16)$")
"""The end of a tag that names how the weights are stored: ``q4_0``, ``3b-q8_0``."""


def normalise(name: str) -> str:
    """A model name as Ollama takes it: its default host and namespace left out, the tag ``latest`` written.

    Letters keep their case; names that differ only in case are the same (``same_name``). Raises UsageError.

    >>> normalise("nanda-annotator")
    'nanda-annotator:latest'
    >>> normalise("registry.ollama.ai/library/Qwen3:8B")
    'Qwen3:8B'
    >>> normalise("hf.co/someone/model")
    'hf.co/someone/model:latest'
    """
    text = name.strip()
    path, _, tag = text.rpartition(":")
    if not path or "/" in tag:  # no tag: the colon, if any, is that of a host's port
        path, tag = text, "latest"
    *where, model = path.split("/")
    if len(where) == 2 and where[0].casefold() == "registry.ollama.ai":
        where = where[1:]
    if len(where) == 1 and where[0].casefold() == "library":
        where = []
    parts_fit = all(_PART.fullmatch(part) for part in (*where[-1:], model, tag))
    if len(where) > 2 or not parts_fit or (len(where) == 2 and not _HOST.fullmatch(where[0])):
        raise UsageError(f"{name!r} is not a model name", "write it as name or name:tag")
    return "/".join((*where, model)) + f":{tag}"


def same_name(one: str, other: str) -> bool:
    """Whether Ollama would take both for the same model. Neither needs to be normalised; both must be valid."""
    return normalise(one).casefold() == normalise(other).casefold()


@dataclass(frozen=True)
class Gguf:
    """A model file beside its entry."""

    path: str
    """Relative to the entry's folder, with ``/``; it never leaves that folder."""
    sha256: str
    """64 hex digits."""
    size: int
    """Bytes."""


@dataclass(frozen=True)
class Gate:
    """The score that an entry must reach before it is served."""

    set: str
    metric: str
    minimum: float


@dataclass(frozen=True)
class Entry:
    """A model of the registry. ``name`` is normalised."""

    name: str
    task: str
    contract: str = ""
    """Prompt contract that its output follows; empty for a general chat model."""
    status: Status = "candidate"
    base: str = ""
    licence: str = ""
    description: str = ""
    previous: str = ""
    """The entry that this one took the place of; a rollback activates it again."""
    ollama: str = ""
    """Its tag in an Ollama daemon; empty where it has none."""
    gguf: Gguf | None = None
    lineage: Mapping[str, str] = field(default_factory=dict)
    """Hashes of data, configuration, base and adapter."""
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Set it was measured on → metric → value."""
    gate: Gate | None = None
    serving: Mapping[str, Any] = field(default_factory=dict)
    """What its skill needs to use it: thresholds, calibration. Free."""
    template: str = ""
    """Ollama's Go template; empty leaves the chat template of the GGUF in force."""
    system: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Ollama's parameters (``num_ctx``, ``stop`` …)."""
    folder: Path = field(default=Path(), compare=False)
    """Where the entry's own file lies."""

    @property
    def family(self) -> str:
        """What entries of one task have in common that replace each other: the name without its tag.

        A quantisation that the tag ends with stays: ``m:q4_0`` and ``m:q8_0`` are served side by side, each for what it is
        good for, and ``m:2-q8_0`` replaces ``m:q8_0`` alone.
        """
        name, _, tag = self.name.casefold().rpartition(":")
        found = _QUANTISED.search(tag)
        return f"{name}:{found[1]}" if found else name

    @property
    def gguf_path(self) -> Path | None:
        """Where the model file should be."""
        return self.folder / self.gguf.path if self.gguf else None

    @property
    def file(self) -> Path:
        """The entry's own file."""
        return self.folder / f"{self.name.rpartition(':')[2]}.toml"

    @property
    def score(self) -> float | None:
        """The gate's metric on the gate's set; None where there is no gate or it was not measured."""
        return self.scores.get(self.gate.set, {}).get(self.gate.metric) if self.gate else None


def place(registry: Path, name: str) -> Path:
    """The folder of an entry: ``registry/NAME`` (name parts are checked, so it never leaves the registry)."""
    return registry.joinpath(*normalise(name).rpartition(":")[0].split("/"))


def to_toml(entry: Entry) -> str:
    """The entry's file. Reading it back gives an equal entry."""
    plain = ("name", "task", "contract", "status", "base", "licence", "description", "previous")
    values: dict[str, Any] = {key: getattr(entry, key) for key in plain if getattr(entry, key)}
    tables: dict[str, Mapping[str, Any]] = {
        "ollama": {"tag": entry.ollama} if entry.ollama else {},
        "gguf": vars(entry.gguf) if entry.gguf else {},
        "lineage": entry.lineage,
        "scores": entry.scores,
        "gate": vars(entry.gate) if entry.gate else {},
        "serving": entry.serving,
        "modelfile": {key: value for key in ("template", "system", "parameters") if (value := getattr(entry, key))},
    }
    return dumps(values | {key: table for key, table in tables.items() if table})


class _Table:
    """A TOML table being read: each getter notes what is wrong and goes on, so that all problems are found at once."""

    def __init__(self, values: Mapping[str, Any], where: str, problems: list[str]) -> None:
        self._values, self._where, self._problems = values, where, problems
        self._read: set[str] = set()

    def problem(self, key: str, text: str, remedy: str) -> None:
        self._problems.append(f"{self._where}{key}: {text}; {remedy}")

    def get(self, key: str, kind: type | tuple[type, ...], default: Any, *, what: str, required: bool = False) -> Any:
        self._read.add(key)
        kinds = kind if isinstance(kind, tuple) else (kind,)
        value = self._values.get(key)
        if value is None:
            if required:
                self.problem(key, "missing", f"give {what}")
        elif not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):  # True is an int, too
            self.problem(key, f"{value!r} is not {what}", "correct it")
        else:
            return value
        return default

    def text(self, key: str, *, required: bool = False, pattern: re.Pattern[str] | None = None, like: str = "") -> str:
        value = str(self.get(key, str, "", what="a string", required=required))
        if value and pattern and not pattern.fullmatch(value):
            self.problem(key, f"{value!r} is not valid", f"write it like {like}")
        return value

    def number(self, key: str) -> float:
        value = float(self.get(key, (int, float), 0.0, what="a number", required=True))
        if not math.isfinite(value):
            self.problem(key, f"{value} is not a finite number", "measure it again")
        return value

    def table(self, key: str) -> _Table:
        return _Table(self.mapping(key), f"{self._where}{key}.", self._problems)

    def mapping(self, key: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.get(key, Mapping, {}, what="a table")
        return found

    def names(self) -> list[str]:
        return list(self._values)

    def close(self) -> None:
        """Note the keys that nobody asked for: most are misspelt."""
        for key in sorted(set(self._values) - self._read):
            self.problem(key, "unknown key", f"known: {', '.join(sorted(self._read))}")

    def name(self, key: str, *, required: bool = False) -> str:
        value = self.text(key, required=required)
        try:
            return normalise(value) if value else ""
        except UsageError as error:
            self.problem(key, error.message, error.remedy)
            return ""


def _gguf(table: _Table, folder: Path) -> Gguf:
    path = table.text("path", required=True)
    parts = (*PurePosixPath(path).parts, *PureWindowsPath(path).parts)
    outside = ".." in parts or PureWindowsPath(path).drive or path.startswith(("/", "\\"))
    if path and (outside or not (folder / path).resolve().is_relative_to(folder.resolve())):
        table.problem("path", f"{path!r} leaves the entry's folder", "put the file beside the entry")
    sha256 = table.text("sha256", required=True, pattern=_SHA256, like="64 hex digits")
    return Gguf(path, sha256, int(table.get("size", int, 0, what="a number of bytes", required=True)))


def _scores(table: _Table) -> dict[str, dict[str, float]]:
    found = {}
    for name in table.names():
        metrics = table.table(name)
        found[name] = {metric: metrics.number(metric) for metric in metrics.names()}
    return found


def _parameters(table: _Table) -> dict[str, Any]:
    kinds = (str, bool, int, float, list)
    found = {key: table.get(key, kinds, "", what="a string, number, boolean or list of strings") for key in table.names()}
    for key, value in found.items():
        if isinstance(value, list) and not all(isinstance(item, str) for item in value):
            table.problem(key, "not a list of strings", "correct it")
    return found


def parse(values: Mapping[str, Any], folder: Path) -> tuple[Entry, list[str]]:
    """The entry in ``values`` and everything wrong with it (then the entry must not be used)."""
    problems: list[str] = []
    top = _Table(values, "", problems)
    ollama, gguf, gate, recipe = (top.table(key) for key in ("ollama", "gguf", "gate", "modelfile"))
    lineage = top.table("lineage")
    status = top.text("status", required=True)
    if status and status not in get_args(Status):
        top.problem("status", f"{status!r} is not a status", f"one of {', '.join(get_args(Status))}")
    entry = Entry(
        name=top.name("name", required=True),
        task=top.text("task", required=True, pattern=_TASK, like="annotate"),
        contract=top.text("contract", pattern=_CONTRACT, like="annotate/quote@1"),
        status=status,  # type: ignore[arg-type]
        **{key: top.text(key) for key in ("base", "licence", "description")},
        previous=top.name("previous"),
        ollama=ollama.name("tag", required=True) if ollama.names() else "",
        gguf=_gguf(gguf, folder) if gguf.names() else None,
        lineage={key: lineage.text(key) for key in lineage.names()},
        scores=_scores(top.table("scores")),
        gate=Gate(gate.text("set", required=True), gate.text("metric", required=True), gate.number("minimum"))
        if gate.names()
        else None,
        serving=top.mapping("serving"),
        template=recipe.text("template"),
        system=recipe.text("system"),
        parameters=_parameters(recipe.table("parameters")),
        folder=folder,
    )
    if not entry.ollama and not entry.gguf:
        top.problem("gguf", "the entry names no place where it can run", "give [gguf] or [ollama]")
    for table in (top, ollama, gguf, gate, recipe):
        table.close()
    return entry, problems


def read(path: Path) -> tuple[Entry | None, list[str]]:
    """The entry of one file, or None and every problem as a line ``file: key: what; remedy``."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        return None, [f"{path}: cannot be read as TOML ({error}); correct it or move it away"]
    entry, problems = parse(values, path.parent)
    return (None if problems else entry), [f"{path}: {problem}" for problem in problems]
