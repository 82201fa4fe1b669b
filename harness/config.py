"""Settings and the user's data folder.

Order: defaults < ``config.toml`` in the data folder < ``./marginalia.toml`` < environment < options.
"""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from harness.errors import UsageError

ROOT = Path(__file__).resolve().parent.parent
"""The checkout (or the installed copy): registry, skills and bundled models lie below it."""


def home(environment: Mapping[str, str] = os.environ) -> Path:
    """The user's data folder: ``$MARGINALIA_HOME``, else the platform's rule (XDG, Application Support, LOCALAPPDATA)."""
    if explicit := environment.get("MARGINALIA_HOME"):
        return Path(os.path.expanduser(explicit))
    if sys.platform == "win32":
        return Path(environment.get("LOCALAPPDATA") or Path.home() / "AppData/Local") / "marginalia"
    if sys.platform == "darwin":
        return Path.home() / "Library/Application Support/marginalia"
    return Path(environment.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "marginalia"


@dataclass(frozen=True)
class Settings:
    """All settings; each can stand in a TOML file under its own name and in the environment as ``MARGINALIA_NAME``."""

    model: str = ""
    """Model to use instead of the registry's choice."""
    chat_model: str = ""
    """General chat model ("producer") for plain text; empty takes the first one that the daemon has."""
    embedder: str = ""
    """Embedding model for searches: a model of Ollama or the path of a GGUF file; empty searches by words alone."""
    embedder_query_prefix: str = "auto"
    """What the embedding model is given before a question; ``auto`` goes by its family."""
    embedder_passage_prefix: str = "auto"
    """The same before a passage. Another one embeds everything anew."""
    store: str = ""
    """Where the search index lies: ``qdrant:http://HOST:6333`` or ``qdrant:FOLDER``; empty is the built-in one."""
    ollama_host: str = ""
    """As Ollama's own OLLAMA_HOST; empty is 127.0.0.1:11434."""
    keep_alive: str = "10m"
    workers: int = 0
    """Requests at once; 0 leaves it to the backend."""
    threads: int = 0
    """CPU threads of the embedded runtime; 0 takes the cores that are there."""
    offline: bool = False
    json: bool = False
    yes: bool = False
    verbose: bool = False
    log: bool = True
    timeout: float = 600.0
    """Seconds without a sign of life before a model request counts as failed."""


_KINDS = {bool: "true or false", int: "a whole number of 0 or more", float: "a number of 0 or more", str: "a text"}


def _coerce(name: str, value: Any, where: str) -> Any:
    """A value from TOML or the environment as the type of its setting; a clear error where it cannot be."""
    kind = type(getattr(Settings(), name))
    try:
        if kind is bool:
            if isinstance(value, bool):
                return value
            lowered = str(value).strip().lower()
            if lowered in {"1", "true", "yes", "on"}:
                return True
            if lowered in {"0", "false", "no", "off", ""}:
                return False
            raise ValueError
        if kind is not str and float(value) < 0:
            raise ValueError
        return kind(value)
    except (TypeError, ValueError):
        raise UsageError(f"{where}: {name} = {value!r} is not {_KINDS[kind]}", "correct or remove it") from None


def _read_toml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: cannot be read as TOML ({error})", "correct it or move it away") from None
    known = {field.name for field in fields(Settings)}
    if unknown := sorted(set(values) - known):
        raise UsageError(f"{path}: unknown setting {unknown[0]!r}", f"known: {', '.join(sorted(known))}")
    return {name: _coerce(name, value, str(path)) for name, value in values.items()}


def _working_folder() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise UsageError("the working folder is gone", "change to one that exists") from None


def load_settings(
    options: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] = os.environ,
    folder: Path | None = None,
) -> Settings:
    """Settings in force. ``options`` are the command line's; those that are None were not given.

    Raises UsageError for a file or value that cannot be used.
    """
    settings = replace(Settings(), **_read_toml(home(environment) / "config.toml"))
    settings = replace(settings, **_read_toml((folder or _working_folder()) / "marginalia.toml"))
    from_environment = {
        field.name: _coerce(field.name, environment[key], key)
        for field in fields(Settings)
        if (key := f"MARGINALIA_{field.name.upper()}") in environment
    }
    if "OLLAMA_HOST" in environment and "ollama_host" not in from_environment:
        from_environment["ollama_host"] = environment["OLLAMA_HOST"]
    settings = replace(settings, **from_environment)
    given = {name: value for name, value in (options or {}).items() if value is not None}
    return replace(settings, **given)
