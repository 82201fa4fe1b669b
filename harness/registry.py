"""The registry: models as one TOML file each, in the user's data folder and in the checkout.

Writing is atomic and under a lock, so that several processes may promote at once and a killed one leaves the old entry.
An entry of the user hides a shipped one of the same name. Promotion and rollback stay inside the folder an entry lies in.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.config import ROOT, home
from harness.errors import InputError, UsageError
from harness.locks import locked
from harness.registry_entry import Entry, Gate, Gguf, Status, normalise, parse, place, read, same_name, to_toml
from harness.registry_gate import check_gate, counts_file, held_back_by, read_report, scored
from harness.registry_history import note

__all__ = [
    "Change",
    "Entry",
    "Gate",
    "Gguf",
    "Status",
    "find",
    "folders",
    "load",
    "normalise",
    "promote",
    "rollback",
    "same_name",
    "scan",
    "score",
    "verify",
    "write",
]


@dataclass(frozen=True)
class Change:
    """What a promotion or rollback did."""

    active: Entry
    retired: tuple[str, ...]
    """Names that are no longer served."""


def folders() -> tuple[Path, Path]:
    """Where entries lie: the user's registry, then the shipped one."""
    return home() / "registry", ROOT / "registry"


def scan(where: Iterable[Path] | None = None) -> tuple[list[Entry], list[str]]:
    """All usable entries, sorted by name, and every problem found as one line; of one name the first folder's counts."""
    found: dict[str, Entry] = {}
    problems: list[str] = []
    for folder in folders() if where is None else where:
        for path in sorted(folder.rglob("*.toml")):
            entry, wrong = read(path)
            problems += wrong
            if entry is None:
                continue
            if (place(folder, entry.name), entry.file) != (path.parent, path):
                problems.append(f"{path}: name: {entry.name} belongs elsewhere; move it to NAME/TAG.toml")
            else:
                found.setdefault(entry.name.casefold(), entry)
    return [found[key] for key in sorted(found)], problems


def load(folder: Path) -> list[Entry]:
    """The entries of one registry folder. Raises InputError that lists every problem: file, key, remedy."""
    entries, problems = scan([folder])
    if problems:
        raise InputError("\n".join(problems))
    return entries


def find(name: str, where: Iterable[Path] | None = None) -> Entry | None:
    """The entry of this name (or, failing that, of this Ollama tag); None where there is none.

    Raises InputError where the entry's own file is there but cannot be used, UsageError for what is not a name.
    """
    name = normalise(name)
    where = list(folders() if where is None else where)
    entries, problems = scan(where)
    for spelling in ("name", "ollama"):
        for entry in entries:
            if getattr(entry, spelling).casefold() == name.casefold():
                return entry
    files = {str(place(folder, name) / f"{name.rpartition(':')[2]}.toml") for folder in where}
    if broken := [line for line in problems if line.partition(": ")[0] in files]:
        raise InputError("\n".join(broken))
    return None


def _need(name: str, where: Sequence[Path]) -> Entry:
    if entry := find(name, where):
        return entry
    known = ", ".join(entry.name for entry in scan(where)[0]) or "none"
    raise UsageError(f"the registry has no model {normalise(name)}", f"it has: {known}")


def _registry_of(entry: Entry, where: Sequence[Path]) -> Path:
    """The registry folder that holds an entry."""
    return next(folder for folder in where if place(folder, entry.name) == entry.folder)


def _save(registry: Path, entry: Entry) -> Entry:
    """Write an entry; the lock is held by the caller."""
    from harness.outputs import atomic_write

    entry = replace(entry, folder=place(registry, entry.name))
    with atomic_write(entry.file) as handle:
        handle.write(to_toml(entry))
    return entry


def write(entry: Entry, registry: Path | None = None) -> Entry:
    """Write an entry into a registry folder (the user's where none is named), in one step, and return it as it lies there.

    Raises InputError where it would not be read back as it is: then nothing is written.
    """
    registry = registry or folders()[0]
    again, problems = parse(tomllib.loads(to_toml(entry)), place(registry, entry.name))
    if problems:
        raise InputError("\n".join(f"{entry.name}: {problem}" for problem in problems))
    with locked(registry / ".lock"):
        return _save(registry, again)


def _require_file(entry: Entry) -> None:
    if problems := verify(entry):
        raise InputError("\n".join(problems))


def promote(name: str, where: Sequence[Path] | None = None) -> Change:
    """Serve an entry from now on; the one of its family and task that was served before is retired and remembered.

    The gate is the entry's own minimum, and that it is not worse than what is served beyond noise (``registry_gate``).
    Promoting again what is active finishes a promotion that was cut short. Raises InputError where the gate or the file's
    hash is not met, UsageError for an unknown name.
    """
    where = list(where or folders())
    entry = _need(name, where)
    if short := check_gate(entry) or held_back_by(entry, _served_beside(entry, scan(where)[0])):
        raise InputError(short, "measure or train it further; it is not served")
    _require_file(entry)
    registry = _registry_of(entry, where)
    with locked(registry / ".lock"):
        entry = _need(name, [registry])
        others = _served_beside(entry, scan([registry])[0])
        if entry.status != "active":
            previous = others[0].name if others else entry.previous
            entry = _save(registry, replace(entry, status="active", previous=previous))
        for other in others:  # only now: at no moment is nothing served
            _save(registry, replace(other, status="retired"))
        change = Change(entry, tuple(other.name for other in others))
        note(registry, "promote", entry.name, change.retired, entry.score)
    return change


def _served_beside(entry: Entry, entries: Iterable[Entry]) -> list[Entry]:
    """The other active entries of its family and task."""
    key = entry.family, entry.task
    return [
        other
        for other in entries
        if other.status == "active" and (other.family, other.task) == key and other.name != entry.name
    ]


def score(name: str, report: Path, model: str = "", where: Sequence[Path] | None = None) -> Entry:
    """Write what ``finetune/eval.py`` measured into an entry: its scores, and the counts of each paper beside it.

    ``model`` is how the report names the model, the entry's own name unless given. Raises InputError, UsageError.
    """
    from harness.outputs import atomic_write

    where = list(where or folders())
    measured = read_report(report)
    registry = _registry_of(_need(name, where), where)
    with locked(registry / ".lock"):
        entry, counts = scored(_need(name, [registry]), measured, model)
        if counts:
            with atomic_write(counts_file(entry)) as handle:
                handle.write(counts)
        return _save(registry, entry)


def rollback(what: str, where: Sequence[Path] | None = None) -> Change:
    """Serve again what the last promotion replaced. ``what`` is a task, or the name of the model to take back.

    Raises UsageError where there is nothing, or more than one thing, to roll back.
    """
    where = list(where or folders())
    entries, _ = scan(where)
    current = [
        entry
        for entry in entries
        if entry.status == "active" and entry.previous and (entry.task == what or _is_named(entry, what))
    ]
    names = {entry.previous for entry in current}  # a rollback that was cut short leaves both active
    current = [entry for entry in current if entry.name not in names]
    if not current:
        raise UsageError(f"nothing to roll back for {what!r}", "see `python agent.py registry list`")
    if len(current) > 1:
        several = ", ".join(entry.name for entry in current)
        raise UsageError(f"{what!r} could roll back several models: {several}", "name one of them")
    registry = _registry_of(current[0], where)
    _require_file(_need(current[0].previous, [registry]))
    with locked(registry / ".lock"):
        now = _need(current[0].name, [registry])
        before = _need(current[0].previous, [registry])
        before = _save(registry, replace(before, status="active"))
        _save(registry, replace(now, status="retired", previous=""))
        note(registry, "rollback", before.name, [now.name], before.score)
    return Change(before, (now.name,))


def _is_named(entry: Entry, name: str) -> bool:
    try:
        return same_name(entry.name, name)
    except UsageError:
        return False


def verify(entry: Entry) -> list[str]:
    """What is wrong with an entry's model file, one line each: missing, size, hash. Empty when all is well."""
    path = entry.gguf_path
    if entry.gguf is None or path is None:
        return []
    remedy = "fetch or build it again"
    try:
        size = path.stat().st_size
        if size != entry.gguf.size:
            return [f"{path}: {size} bytes instead of {entry.gguf.size}; {remedy}"]
        with path.open("rb") as handle:
            digest = hashlib.file_digest(handle, "sha256").hexdigest()
    except FileNotFoundError:
        return [f"{path}: missing; {remedy}"]
    except OSError as error:
        return [f"{path}: cannot be read ({error.strerror}); {remedy}"]
    return [] if digest == entry.gguf.sha256 else [f"{path}: sha256 is {digest}, not {entry.gguf.sha256}; {remedy}"]
