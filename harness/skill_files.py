"""SKILL.md read and checked: pure functions from a folder to what it says and to the list of what is wrong with it.

The format is the Agent Skills standard; Marginalia's own keys stand inside ``metadata``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FILE = "SKILL.md"
CODE = "skill.py"
TRIGGERS = "marginalia-triggers"
"""Metadata key: ``;``-separated patterns that activate the skill without a slash (``harness.task.trigger_regex``)."""
EXAMPLE = "marginalia-example"
"""Metadata key: a task that shows how the skill is used."""
GENERAL = "marginalia-general-model"
"""Metadata key: ``"no"`` keeps a skill from being run by a general chat model."""
WITHOUT = "marginalia-without-model"
"""Metadata key: what the skill does where no model is at all; a skill that has none of it lacks the key."""

MAX_NAME = 64
MAX_DESCRIPTION = 1024
MAX_COMPATIBILITY = 500
MAX_BYTES = 1024 * 1024
MAX_BRACKETS = 500
"""In a frontmatter; PyYAML's time grows with the square of their nesting."""
KEYS = frozenset({"name", "description", "license", "compatibility", "metadata", "allowed-tools"})
_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a skill, and where."""

    path: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}"


@dataclass(frozen=True)
class SkillFile:
    """What a SKILL.md says."""

    folder: Path
    name: str
    description: str
    body: str
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def triggers(self) -> tuple[str, ...]:
        """The patterns that activate the skill without a slash."""
        return tuple(part.strip().lower() for part in self.metadata.get(TRIGGERS, "").split(";") if part.strip())

    @property
    def has_code(self) -> bool:
        """False: the body is the instruction for a chat model."""
        return (self.folder / CODE).is_file()


@dataclass(frozen=True)
class _Source:
    """A SKILL.md taken apart: the values of its frontmatter, the line of each key, the text after it."""

    values: Mapping[str, Any]
    lines: Mapping[str, int]
    body: str
    body_line: int


def is_name(text: object) -> bool:
    """True for a name that the standard allows."""
    return isinstance(text, str) and len(text) <= MAX_NAME and _NAME.fullmatch(text) is not None


def read_skill(folder: Path) -> tuple[SkillFile | None, list[Problem]]:
    """The skill in ``folder``, read leniently: only what makes it unusable (the first return value None) stops it.

    A name that the standard does not allow gives way to the folder's; every oddity is reported.
    """
    source, problems = _parse(folder)
    if source is None:
        return None, problems
    problems += _check_values(folder, source)
    description = source.values.get("description")
    name = next((one for one in (source.values.get("name"), folder.name) if is_name(one)), None)
    if name is None or not isinstance(description, str) or not description.strip():
        return None, problems
    metadata = source.values.get("metadata")
    pairs = metadata.items() if isinstance(metadata, dict) else ()
    texts = {str(key): str(value) for key, value in pairs if isinstance(value, str | int | float)}
    return SkillFile(folder, str(name), " ".join(description.split()), source.body, texts), problems


def validate(folder: Path) -> list[Problem]:
    """Everything that the standard and this program would object to in the skill in ``folder``, in one go."""
    source, problems = _parse(folder)
    if source is not None:
        problems += _check_values(folder, source)
        if not source.body.strip() and not (folder / CODE).is_file():
            problems.append(
                Problem(folder / FILE, source.body_line, f"no instructions after the frontmatter and no {CODE}")
            )
    return problems + list(_check_code(folder / CODE))


def _parse(folder: Path) -> tuple[_Source | None, list[Problem]]:
    path = folder / FILE
    try:
        data = path.read_bytes() if path.stat().st_size <= MAX_BYTES else None
    except OSError as error:
        return None, [Problem(path, 1, f"cannot be read ({error.strerror})")]
    if data is None:
        return None, [Problem(path, 1, f"larger than {MAX_BYTES // 1024} KB")]
    try:
        lines = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        return None, [Problem(path, data.count(b"\n", 0, error.start) + 1, "not UTF-8")]
    if not lines or lines[0].rstrip() != "---":
        return None, [Problem(path, 1, "must begin with a line --- and YAML frontmatter")]
    end = next((number for number, line in enumerate(lines[1:], 1) if line.rstrip() == "---"), None)
    if end is None:
        return None, [Problem(path, len(lines), "the frontmatter is not closed by a line ---")]
    return _parse_yaml(path, "\n".join(lines[1:end]), "\n".join(lines[end + 1 :]).strip("\n"), end + 2)


def _parse_yaml(path: Path, text: str, body: str, body_line: int) -> tuple[_Source | None, list[Problem]]:
    import yaml

    if text.count("[") + text.count("{") > MAX_BRACKETS:
        return None, [Problem(path, 2, f"not YAML that is read here: more than {MAX_BRACKETS} brackets")]
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        reason = getattr(error, "problem", None) or getattr(error, "reason", None) or "unreadable"
        return None, [Problem(path, mark.line + 2 if mark else 2, f"not YAML: {reason}")]
    except (ValueError, RecursionError) as error:  # a date that is none; brackets nested too deep
        return None, [Problem(path, 2, f"not YAML: {error}")]
    if not isinstance(node, yaml.MappingNode) or not isinstance(values, dict):
        return None, [Problem(path, 2, "the frontmatter is not a list of key: value lines")]
    lines: dict[str, int] = {}
    problems = []
    for key, value in node.value:
        line = key.start_mark.line + 2
        if key.value in lines:
            problems.append(Problem(path, line, f"{key.value} stands here twice"))
        lines[key.value] = line
        if key.value == "metadata" and isinstance(value, yaml.MappingNode):
            lines |= {f"metadata.{inner.value}": inner.start_mark.line + 2 for inner, _ in value.value}
    return _Source(values, lines, body, body_line), problems


def _check_values(folder: Path, source: _Source) -> list[Problem]:
    """The rules for the frontmatter's values."""
    path = folder / FILE
    checks = (_check_name(folder, source.values), _check_texts(source.values), _check_metadata(source.values))
    unknown = (
        (str(key), f"unknown key {key!r} (own keys go inside metadata; known: {', '.join(sorted(KEYS))})")
        for key in source.values
        if key not in KEYS
    )
    found = [problem for check in (*checks, unknown) for problem in check]
    return [Problem(path, source.lines.get(key, 1), text) for key, text in found]


def _check_name(folder: Path, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    name = values.get("name")
    if name is None:
        yield "name", "name is missing"
    elif not is_name(name):
        yield "name", f"name {name!r}: 1-{MAX_NAME} of a-z, 0-9 and single hyphens between them"
    if name is not None and name != folder.resolve().name:
        yield "name", f"name {name!r} is not the folder's ({folder.resolve().name!r})"


def _check_texts(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if values.get("description") is None:
        yield "description", "description is missing"
    for key, most in (("description", MAX_DESCRIPTION), ("compatibility", MAX_COMPATIBILITY)):
        value = values.get(key)
        if isinstance(value, str) and not value.strip():
            yield key, f"{key} is empty"
        elif isinstance(value, str) and len(value) > most:
            yield key, f"{key} has {len(value)} characters, at most {most} are allowed"
    for key in sorted((KEYS & values.keys()) - {"name", "metadata"}):
        if values[key] is not None and not isinstance(values[key], str):
            yield key, f"{key} must be a text (put it in quotes)"


def _check_metadata(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    metadata = values.get("metadata")
    if metadata is None:
        return
    if not isinstance(metadata, dict):
        yield "metadata", "metadata must be a list of key: value lines"
        return
    for key, value in metadata.items():
        if not isinstance(key, str) or not isinstance(value, str):
            yield f"metadata.{key}", f"metadata {key}: key and value must be texts (put them in quotes)"
    for pattern in str(metadata.get(TRIGGERS, "")).split(";"):
        if pattern != pattern.lower():
            yield f"metadata.{TRIGGERS}", f"trigger {pattern.strip()!r} must be in lower case"
        if pattern.strip() and not any(character.isalnum() for character in pattern):
            yield f"metadata.{TRIGGERS}", f"trigger {pattern.strip()!r} would activate on anything"


def _check_code(path: Path) -> Iterator[Problem]:
    """``skill.py`` must be Python with the two names of the protocol; it is parsed, never run."""
    import ast

    if not path.exists():
        return
    try:
        tree = ast.parse(path.read_bytes(), filename=str(path))
    except SyntaxError as error:
        yield Problem(path, error.lineno or 1, f"not Python: {error.msg}")
        return
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        yield Problem(path, 1, f"cannot be read ({error})")
        return
    bound = {name for statement in tree.body for name in _bound(statement)}
    for name in ("FLAGS", "run"):
        if name not in bound:
            yield Problem(path, 1, f"defines no {name}")


def _bound(statement: Any) -> Iterator[str]:
    """The names that a statement at the top of a module defines."""
    import ast

    match statement:
        case ast.FunctionDef(name=name):
            yield name
        case ast.Assign(targets=targets):
            yield from (target.id for target in targets if isinstance(target, ast.Name))
        case ast.AnnAssign(target=ast.Name(id=name)):
            yield name
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            yield from (alias.asname or alias.name for alias in names)
