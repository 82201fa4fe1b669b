"""What a skill is to the harness: the protocol of ``skill.py``, and how skills are found and loaded."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from harness.config import ROOT
from harness.errors import Exit, InputError, UsageError
from harness.skill_files import CODE, EXAMPLE, FILE, SkillFile, read_skill
from harness.task import did_you_mean
from harness.trust import is_trusted

if TYPE_CHECKING:
    from harness.context import Context
    from harness.models.base import ModelInfo
    from harness.task import Flag, Task

BUILT_IN = "built-in"
_LOAD_ERRORS = (
    *(ImportError, SyntaxError, NameError, AttributeError, TypeError, ValueError),
    *(LookupError, ArithmeticError, OSError, RuntimeError, AssertionError),
)
"""What the code of others may raise while it is imported; more than this is a bug worth a traceback."""


@dataclass
class Outcome:
    """What a skill made of a task.

    ``text`` is Markdown for people; ``records`` are what ``--json`` prints (one object, or one a line when several).
    ``saved`` names the files written; then ``text`` is not printed and the summary stands on stderr.
    """

    text: str = ""
    plain: bool = False
    """``text`` is no Markdown and is shown as it is."""
    records: Sequence[Mapping[str, Any]] = ()
    exit: Exit = Exit.DONE
    saved: Sequence[str] = ()
    model: ModelInfo | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    context_used: int = 0
    """The largest share of the context one request took, in tokens."""
    details: dict[str, Any] = field(default_factory=dict)
    """Anything worth keeping in the log."""


class Skill(Protocol):
    """The module ``skill.py`` of a skill folder: two names."""

    FLAGS: tuple[Flag, ...]

    def run(self, task: Task, context: Context) -> Outcome:
        """Do the task. Raises MarginaliaError for what the user can mend, KeyboardInterrupt when stopped."""
        ...


@dataclass(frozen=True)
class InstalledSkill:
    """A skill that was found: what its SKILL.md says, and its code on demand."""

    file: SkillFile
    source: str
    """``built-in``, ``project`` or ``user``."""
    home: Path
    """The data folder, which knows whom the user trusts."""

    @property
    def name(self) -> str:
        return self.file.name

    @property
    def description(self) -> str:
        return self.file.description

    @property
    def example(self) -> str:
        """A task that shows how it is used; empty where its SKILL.md has none."""
        return self.file.metadata.get(EXAMPLE, "")

    @property
    def triggers(self) -> tuple[str, ...]:
        return self.file.triggers

    @property
    def runnable(self) -> bool:
        """False: it has code of a third party that the user has not trusted (as it is now)."""
        if self.source == BUILT_IN or not self.file.has_code:
            return True
        try:
            return is_trusted(self.file.folder, self.home)
        except InputError:
            return False

    @property
    def flags(self) -> tuple[Flag, ...]:
        """The flags of its code; none where it has none or may not run. Raises InputError for broken code."""
        return self.load().FLAGS if self.runnable else ()

    def load(self) -> Skill:
        """Its code, or for a skill without code its instruction.

        Raises UsageError for untrusted code, InputError for code that cannot be loaded.
        """
        if not self.file.has_code:
            from harness.chat import InstructionSkill

            return InstructionSkill(self.file)
        if not self.runnable:
            raise UsageError(
                f"skill {self.name}: the code in {self.file.folder} is not trusted (or was changed)",
                f'read it, then: python agent.py skills trust "{self.file.folder}"',
            )
        if self.source == BUILT_IN:
            return cast(Skill, importlib.import_module(f"skills.{self.file.folder.name}.skill"))
        return _load_third_party(self.file.folder)


def _load_third_party(folder: Path) -> Skill:
    """Import ``skill.py`` of any folder as a package of its own, so that it can import its neighbours by ``from .``."""
    from importlib.machinery import ModuleSpec

    sys.dont_write_bytecode = True  # a __pycache__ made by us would be a change of the trusted files
    folder = folder.resolve()
    package = f"_marginalia_skill_{str(folder).encode().hex()}"
    if package not in sys.modules:
        spec = ModuleSpec(package, None, is_package=True)
        spec.submodule_search_locations = [str(folder)]
        sys.modules[package] = importlib.util.module_from_spec(spec)
    try:
        module = importlib.import_module(f"{package}.skill")
    except _LOAD_ERRORS as error:
        raise InputError(
            f"{folder / CODE}: cannot be loaded ({type(error).__name__}: {error})", "ask its author, or remove it"
        ) from error
    flags = getattr(module, "FLAGS", None)
    if not callable(getattr(module, "run", None)) or not isinstance(flags, tuple):
        raise InputError(
            f"{folder / CODE}: needs FLAGS (a tuple) and run(task, context)", "python agent.py skills validate"
        )
    return cast(Skill, module)


def skill_roots(home: Path, folder: Path | None = None) -> tuple[tuple[Path, str], ...]:
    """Where skills are looked for and how each place is called; the first one to have a name wins."""
    return (
        (ROOT / "skills", BUILT_IN),
        ((folder or Path.cwd()) / ".agents" / "skills", "project"),
        (Path.home() / ".agents" / "skills", "user"),
        (home / "skills", "user"),
    )


def find_skills(home: Path, roots: Iterable[tuple[Path, str]] | None = None) -> tuple[list[InstalledSkill], list[str]]:
    """All skills, in the order of their places and by name, and one line for each that is unusable or hidden.

    What is merely odd about a skill is for ``skills validate`` to say.
    """
    found: dict[str, InstalledSkill] = {}
    warnings: list[str] = []
    seen: set[Path] = set()
    for root, source in skill_roots(home) if roots is None else roots:
        for folder in _skill_folders(root):
            if folder.resolve() in seen:
                continue
            seen.add(folder.resolve())
            file, problems = read_skill(folder)
            if file is None:
                warnings += map(str, problems)
            elif (other := found.get(file.name)) is not None:
                warnings.append(f"{folder}: skill {file.name} is hidden by the one in {other.file.folder}")
            else:
                found[file.name] = InstalledSkill(file, source, home)
    return list(found.values()), warnings


def _skill_folders(root: Path) -> list[Path]:
    try:
        return sorted(path.parent for path in root.glob(f"[!._]*/{FILE}"))
    except OSError:
        return []


def get_skill(name: str, skills: Iterable[InstalledSkill]) -> InstalledSkill:
    """The skill of this name. Raises UsageError with the nearest names."""
    known = {skill.name: skill for skill in skills}
    if name not in known:
        raise UsageError(f"no skill is called {name}", did_you_mean(name, known, "") or "python agent.py skills")
    return known[name]
