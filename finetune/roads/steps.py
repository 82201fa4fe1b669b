"""What a road consists of: steps with inputs and outputs, the fingerprint that says whether one has to run, its record.

A step is done when its record says so, its fingerprint (hashes of its inputs, of its command, of the code that it runs) is
that of the record, and its outputs are what the record saw. Everything else is a reason to run it, which the plan names.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from harness.config import ROOT
from harness.errors import InputError
from harness.outputs import atomic_write

VERSION = 1
State = Literal["skip", "run", "resume", "maybe"]


@dataclass(frozen=True)
class Step:
    """One program to run."""

    name: str
    what: str
    """What it does, for the plan: a few words."""
    command: tuple[str, ...]
    """Its arguments behind the Python interpreter, the same at every run."""
    inputs: tuple[Path, ...] = ()
    """Files and folders whose contents shape the result."""
    outputs: tuple[Path, ...] = ()
    """Files and folders that are there, whole, when it has ended well."""
    code: tuple[str, ...] = ()
    """Files and folders of the checkout whose code shapes the result."""
    resume: tuple[str, ...] = ()
    """More arguments where the same step was stopped before: it goes on."""
    restart: tuple[str, ...] = ()
    """More arguments where another run of the step left something behind: it starts over."""
    partly: tuple[int, ...] = ()
    """Exit codes beside 0 that leave all outputs (a row could not be annotated)."""
    minutes: float | None = None
    """What it took where the road was written, if that is known."""


@dataclass(frozen=True)
class Plan:
    """Whether a step runs, and why."""

    step: Step
    state: State
    """``maybe``: it depends on what an earlier step will write."""
    why: str
    seconds: float | None
    """What it took the last time, or may take; None where nobody knows."""


@dataclass
class Records:
    """``road.json``: for each step what it was made from and what it made. Written anew at every change."""

    path: Path
    steps: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: dict[str, list[Any]] = field(default_factory=dict)
    """Path → size, time of change, hash: what was hashed once is read again only when it changed."""

    @classmethod
    def load(cls, path: Path) -> Records:
        """What is there; empty where nothing is. Raises InputError for something else."""
        if not path.exists():
            return cls(path)
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if values["version"] != VERSION:
                raise ValueError(f"version {values['version']}")
            return cls(path, dict(values["steps"]), dict(values["files"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path}: is no record of a road ({error})", "move it away: every step then runs again"
            ) from None

    def without(self, name: str, inputs: Sequence[Path]) -> Records:
        """The same records, that of one step without some of its inputs."""
        if name not in self.steps:
            return self
        left_out = set(map(str, inputs))
        kept = {path: digest for path, digest in self.steps[name]["inputs"].items() if path not in left_out}
        return Records(self.path, {**self.steps, name: {**self.steps[name], "inputs": kept}}, self.files)

    def save(self) -> None:
        """Write it, whole or not at all."""
        values = {"version": VERSION, "steps": self.steps, "files": self.files}
        with atomic_write(self.path) as handle:
            handle.write(json.dumps(values, indent=1, ensure_ascii=False) + "\n")

    def digest(self, path: Path) -> str:
        """``sha256:…`` of a file, or of a folder's files with their names; empty where there is nothing."""
        if path.is_dir():
            inside = (p for p in sorted(path.rglob("*")) if p.is_file() and "__pycache__" not in p.parts)
            return _joined((p.relative_to(path).as_posix(), self.digest(p)) for p in inside)
        try:
            status = path.stat()
        except OSError:
            return ""
        seen = [status.st_size, status.st_mtime_ns]
        key = str(path.resolve())
        if self.files.get(key, [])[:2] != seen:
            with path.open("rb") as handle:
                self.files[key] = [*seen, f"sha256:{hashlib.file_digest(handle, 'sha256').hexdigest()}"]
        return str(self.files[key][2])


def _joined(pairs: Iterable[tuple[str, str]]) -> str:
    text = "".join(f"{name}\0{digest}\n" for name, digest in pairs)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def fingerprint(step: Step, records: Records) -> dict[str, Any]:
    """What the step's result follows from. Raises InputError where an input is missing."""
    require(step, step.inputs)
    inputs = {str(path): records.digest(path) for path in step.inputs}
    code = {name: records.digest(ROOT / name) for name in step.code}
    return {"inputs": inputs, "command": list(step.command), "code": code}


def require(step: Step, inputs: Iterable[Path]) -> None:
    """Raise InputError where one of these inputs of a step is missing."""
    if missing := [path for path in inputs if not path.exists()]:
        raise InputError(f"{missing[0]}: missing, step {step.name} needs it", "check the road's configuration")


def reason(step: Step, records: Records) -> tuple[State, str]:
    """Whether a step has to run as things are, and why, without regard to the steps before it."""
    record = records.steps.get(step.name)
    if record is None:
        return "run", "not done yet"
    now, before = fingerprint(step, records), {key: record.get(key) for key in ("inputs", "command", "code")}
    if changed := _changes(before, now):
        return "run", changed
    if record.get("status") != "done":
        return "resume", "was stopped: goes on"
    outputs = record.get("outputs") or {}
    for path in map(str, step.outputs):
        digest = records.digest(Path(path))
        if not digest:
            return "run", f"{path} is missing"
        if digest != outputs.get(path):
            return "run", f"{path} was changed by something else"
    return "skip", f"unchanged since {record.get('ended', 'the last run')}"


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The first thing that differs, in words; empty where nothing does."""
    for kind in ("inputs", "code"):
        old, new = before[kind] or {}, now[kind]
        for name in new:
            if old.get(name) != new[name]:
                return f"{name} {'has changed' if name in old else 'is new'}"
        if gone := [name for name in old if name not in new]:
            return f"{gone[0]} is no longer used"
    if before["command"] != now["command"]:
        fresh = [part for part in now["command"] if part not in (before["command"] or [])]
        return f"its command has changed{': ' + ' '.join(fresh) if fresh else ''}"
    return ""


def plan(steps: Sequence[Step], records: Records, *, start: str = "") -> list[Plan]:
    """What a run would do now. From step ``start`` on everything runs, whatever the records say.

    A step whose inputs an earlier step is about to write cannot be judged yet. Raises InputError for a missing input.
    """
    plans: list[Plan] = []
    forced = False
    pending: set[Path] = set()
    for step in steps:
        forced = forced or step.name == start
        waits = [path for path in step.inputs if _touches(path, pending)]
        # what no step will write must be there now, not after hours of work
        require(step, (path for path in step.inputs if path not in waits))
        known = records.steps.get(step.name, {}).get("seconds")
        seconds = known if known is not None else step.minutes and step.minutes * 60
        state: State
        if forced:
            state, why = "run", "asked for by --from"
        elif waits:
            # the reasons that do not depend on what is still to be written
            settled = replace(step, inputs=tuple(path for path in step.inputs if path not in waits))
            state, why = reason(settled, records.without(step.name, waits))
            state, why = ("maybe", f"if {waits[0]} changes") if state == "skip" else (state, why)
        else:
            state, why = reason(step, records)
        if state != "skip":
            pending |= set(step.outputs)
        plans.append(Plan(step, state, why, seconds))
    return plans


def _touches(path: Path, others: Iterable[Path]) -> bool:
    """Whether a path is, holds, or lies in one of the others."""
    return any(path == other or path.is_relative_to(other) or other.is_relative_to(path) for other in others)
