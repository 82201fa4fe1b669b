"""Open a model by what the user wrote: a registry name, an Ollama tag, a GGUF file, or a folder that training wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.config import Settings
from harness.errors import InputError
from harness.models.base import Model
from harness.registry_entry import Entry
from skills.annotate import mark, prompt
from skills.ask import prompt as ask_prompt
from skills.expand import chat_prompt as expand_chat
from skills.expand import prompt as expand_prompt

if TYPE_CHECKING:
    from harness.models.resolve import Choice

Kind = Literal["model", "marker", "adapter"]
CONTRACTS = (mark.CONTRACT, prompt.QUOTE, prompt.PROSE, expand_prompt.CONTRACT, expand_chat.CONTRACT, ask_prompt.CONTRACT)
_NEAR = 3
"""How many folders upwards a run's own notes (contract, thresholds) may lie: OUT/model, OUT/checkpoint-300/adapter."""


@dataclass(frozen=True)
class Opened:
    """An open model and what its skill needs to use it."""

    model: Model
    place: str
    """What runs it: ``ollama``, ``embedded``, ``remote`` or ``transformers``."""
    serving: Mapping[str, Any] = field(default_factory=dict)
    """Thresholds and calibration, as a registry entry's ``serving`` table."""


def open_model(spec: str, settings: Settings, *, contract: str = "", task: str = "annotate") -> Opened:
    """Open what ``spec`` names for a task. ``contract`` holds for models that do not say which one they speak.

    Raises InputError for a folder that is no model, NoModelError and ModelError where it cannot run here.
    """
    if contract and contract not in CONTRACTS:
        raise InputError(f"{contract} is no prompt contract", f"known: {', '.join(CONTRACTS)}")
    path = Path(spec).expanduser()
    if path.is_dir():
        return _open_folder(path, spec, settings, contract)
    from harness.models.resolve import open_choice, resolve

    choice = resolve(task, replace(settings, model=spec), allow_general=True)
    if choice.entry is None and choice.path is not None:
        return _open_file(choice, spec, settings, contract)
    serving = choice.entry.serving if choice.entry else {}
    return Opened(open_choice(choice, settings), choice.backend, serving)


def _open_file(choice: Choice, name: str, settings: Settings, contract: str) -> Opened:
    """A GGUF that no entry names by its path: as the entry that holds the same bytes, else by what it says of itself."""
    from harness.models.embedded import EmbeddedModel
    from harness.models.resolve import open_choice

    path = choice.path
    assert path is not None  # asked before
    entry = _entry_of(path)
    if entry is not None and entry.serving:
        return Opened(open_choice(replace(choice, name=name, entry=entry), settings), "embedded", entry.serving)
    spoken = (entry.contract if entry else "") or _gguf_contract(path) or _note(path.parent, "contract") or contract
    model = EmbeddedModel(path, name=name, contract=spoken, slots=settings.workers, threads=settings.threads)
    return Opened(model, "embedded", serving_of(path.parent) if spoken == mark.CONTRACT else {})


def expand(specs: Sequence[str]) -> list[str]:
    """Patterns such as ``export/*.gguf`` (capitals do not count) as the paths that they match, in order, each once.

    Raises InputError for a pattern that matches nothing.
    """
    found: list[str] = []
    for spec in specs:
        if not set("*?[") & set(spec):
            found.append(spec)
            continue
        path = Path(spec).expanduser()
        names = sorted(path.parent.iterdir()) if path.parent.is_dir() else []
        matched = [str(place) for place in names if fnmatch(place.name.casefold(), path.name.casefold())]
        if not matched:
            raise InputError(f"{spec}: matches no file", "check the pattern")
        found += matched
    return list(dict.fromkeys(found))


def _entry_of(path: Path) -> Entry | None:
    """The registry entry of a GGUF with these very bytes: a file that was copied from, or into, a registry."""
    from harness.models.embedded import file_digest
    from harness.registry import scan

    size = path.stat().st_size
    entries = [entry for entry in scan()[0] if entry.gguf and entry.gguf.size == size and entry.gguf_path]
    digest = file_digest(path).removeprefix("sha256:") if entries else ""
    return next((entry for entry in entries if entry.gguf and entry.gguf.sha256 == digest), None)


def kind_of(folder: Path) -> Kind:
    """What a folder holds. Raises InputError where that is no model."""
    if (folder / "adapter_config.json").is_file():
        return "adapter"
    if not (folder / "config.json").is_file():
        raise InputError(
            f"{folder}: holds neither config.json nor adapter_config.json",
            "give a folder of save_pretrained, or of a PEFT adapter",
        )
    return "marker" if (folder / "labels.json").is_file() else "model"


def contract_of(folder: Path) -> str:
    """The contract that a folder's model speaks, by its labels or its run's notes; empty where nothing says."""
    if any((near / "labels.json").is_file() for near in _nearby(folder)):
        return mark.CONTRACT
    found = _note(folder, "contract")
    return found if found in CONTRACTS else ""


def serving_of(folder: Path) -> dict[str, Any]:
    """Thresholds (and calibration, where there is one) that the run of a folder wrote; empty where there are none."""
    for near in _nearby(folder):
        for name in ("serving.json", "valid.json"):
            values = _json(near / name)
            if isinstance(values.get("thresholds"), Mapping):
                return {key: values[key] for key in ("thresholds", "floors", "stated", "absent") if key in values}
    return {}


def _open_folder(folder: Path, name: str, settings: Settings, contract: str) -> Opened:
    from finetune.evaluation.torch_model import TorchModel

    kind_of(folder)
    spoken = contract or contract_of(folder)
    serving = serving_of(folder) if spoken == mark.CONTRACT else {}
    return Opened(TorchModel(folder, name=name, contract=spoken, threads=settings.threads), "transformers", serving)


def _nearby(folder: Path) -> list[Path]:
    """A folder and those above it that a run may have written, the nearest first."""
    here = folder.resolve()
    return [here, *here.parents][:_NEAR]


def _note(folder: Path, key: str) -> str:
    """What the notes of a run say of itself, the nearest first; empty where none does."""
    for near in _nearby(folder):
        for name in ("export.json", "train.json", "lineage.json", "card.json"):
            if isinstance(found := _json(near / name).get(key), str) and found:
                return found
    return ""


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _gguf_contract(path: Path) -> str:
    """The contract that a GGUF's own metadata names; empty where it names none."""
    from gguf import GGUFReader

    try:
        field = GGUFReader(path).fields.get("marginalia.contract")
    except (OSError, ValueError):  # opening it will say what is wrong
        return ""
    found = str(field.contents()) if field else ""
    return found if found in CONTRACTS else ""
