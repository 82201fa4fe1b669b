"""Which model serves a task here: ``--model``, else the registry's best, else a general chat model, else what to do.

A model is never fetched by guess, and nothing leaves the machine unless the user named a remote model.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.config import Settings
from harness.errors import InputError, NoModelError, Offline, UsageError
from harness.models.base import Backend, Model
from harness.models.here import Here, can_chat
from harness.models.remote import is_remote, ollama_name
from harness.registry import find, scan
from harness.registry_entry import Entry

if TYPE_CHECKING:
    from harness.models.ollama_daemon import InstalledModel

CHAT = "chat"
"""The task that every general chat model serves."""


@dataclass(frozen=True)
class Choice:
    """A model that can run here, and why it was taken."""

    name: str
    """As the user would write it."""
    backend: Backend
    why: str
    entry: Entry | None = None
    path: Path | None = None
    """The GGUF of an embedded model that has no entry."""

    @property
    def contract(self) -> str:
        """The prompt contract its output follows; empty for a general model."""
        return self.entry.contract if self.entry else ""


@dataclass(frozen=True)
class Offer:
    """One model that could serve a task, or could not, as ``models`` shows it."""

    task: str
    name: str
    status: str
    """Of its registry entry; empty for a general model."""
    score: float | None
    backend: Backend | None
    """What would run it here; None where nothing can."""
    chosen: bool
    why: str


def resolve(task: str, settings: Settings, *, allow_general: bool, variant: str = "") -> Choice:
    """The model that serves ``task`` here. Raises NoModelError with the commands that would fix it, Offline.

    Of the registry's models those with ``variant`` in their tag come first (``q8_0``), whatever their scores.
    """
    with Here(settings) as here:
        return _resolve(task, here, allow_general=allow_general, variant=variant)


def open_choice(choice: Choice, settings: Settings) -> Model:
    """Open what was chosen. Raises ModelError and its kind where it cannot be."""
    entry = choice.entry
    if choice.backend == "remote":
        from harness.models.remote import RemoteModel

        return RemoteModel(choice.name, timeout=settings.timeout, contract=choice.contract)
    if choice.backend == "ollama":
        from harness.models.ollama import OllamaModel
        from harness.models.ollama_daemon import OllamaDaemon

        daemon = OllamaDaemon(settings.ollama_host, timeout=settings.timeout, keep_alive=settings.keep_alive)
        return OllamaModel(daemon, entry.ollama if entry else choice.name, contract=choice.contract)
    from harness.models.embedded import EmbeddedModel

    path = entry.gguf_path if entry else choice.path
    assert path is not None  # an embedded choice has one by construction
    sha256 = entry.gguf.sha256 if entry and entry.gguf else ""
    return EmbeddedModel(
        path, name=choice.name, sha256=sha256, contract=choice.contract, slots=settings.workers, threads=settings.threads
    )


def explain(settings: Settings, tasks: Sequence[tuple[str, bool]]) -> list[Offer]:
    """What could serve each of ``tasks`` (name, whether a general model may) here, the one that would be taken first."""
    with Here(settings) as here:
        return [offer for task, general in tasks for offer in _offers(task, here, allow_general=general)]


def _resolve(task: str, here: Here, *, allow_general: bool, variant: str = "") -> Choice:
    if here.settings.model:
        named = _named(here.settings.model, here, why="named by --model or the settings")
        _must_fit(named, task, allow_general=allow_general)
        return named
    if task == CHAT:
        return _general(here)
    for entry in _best_first(task, variant):
        if choice := _place(entry, here, why=_registry_why(entry)):
            return choice
    if allow_general and (here.settings.chat_model or _producers(here)):
        return _general(here, why=f"no fine-tuned model for {task} can run here")
    raise _nothing(task, here, allow_general=allow_general)


def _best_first(task: str, variant: str = "") -> list[Entry]:
    """The active entries of a task: those of a variant, then the best held-out score first."""

    def rank(entry: Entry) -> tuple[bool, float, str]:
        return variant not in entry.name.rpartition(":")[2], -1.0 if entry.score is None else -entry.score, entry.name

    return sorted((entry for entry in scan()[0] if entry.task == task and entry.status == "active"), key=rank)


def _registry_why(entry: Entry) -> str:
    if entry.gate is None or entry.score is None:
        return f"the registry's model for {entry.task}"
    return f"the registry's best for {entry.task} that runs here ({entry.gate.metric} {entry.score:.3f})"


def _place(entry: Entry, here: Here, *, why: str) -> Choice | None:
    """Where an entry runs: its tag in the daemon, else its GGUF embedded."""
    if not here.no_ollama_place(entry):
        return Choice(entry.name, "ollama", why, entry)
    if not here.no_embedded_place(entry):
        return Choice(entry.name, "embedded", why, entry)
    return None


def _why_not(entry: Entry, here: Here) -> str:
    reasons = []
    if entry.gguf:
        reasons.append(here.no_embedded_place(entry))
    if entry.ollama:
        reasons.append(here.no_ollama_place(entry))
    return ", ".join(reasons)


def _named(name: str, here: Here, *, why: str) -> Choice:
    """A model by what the user wrote: a GGUF file, a registry name, an Ollama tag, a remote ``provider/model``."""
    path = Path(os.path.expanduser(name))
    if path.suffix.lower() == ".gguf":
        return _file(path, here, why=why)
    if is_remote(name):
        if here.settings.offline:
            raise Offline(f"{name} is a remote model and --offline is in force", "leave out --offline, or --model")
        return Choice(name, "remote", why)
    name = ollama_name(name)
    if entry := find(name):
        if choice := _place(entry, here, why=why):
            return choice
        raise NoModelError(f"{entry.name} cannot run here: {_why_not(entry, here)}", _fix(entry, here))
    if model := here.installed(name):
        return Choice(model.name, "ollama", why)
    if here.no_ollama:
        raise NoModelError(f"the registry has no model {name}, and {here.no_ollama}", "start it: ollama serve")
    from harness.models.ollama_errors import no_such_model

    raise no_such_model(name, [model.name for model in here.models])


def _file(path: Path, here: Here, *, why: str) -> Choice:
    """A GGUF by its path; that of a registry entry is served as the entry."""
    if not path.is_file():
        raise InputError(f"{path}: no such file", "give the path of a .gguf file")
    if here.no_embedded:
        raise NoModelError(here.no_embedded, "pip install xllamacpp")
    for entry in scan()[0]:
        if entry.gguf_path is not None and entry.gguf_path.exists() and entry.gguf_path.samefile(path):
            return Choice(entry.name, "embedded", why, entry)
    return Choice(path.stem, "embedded", why, path=path)


def _must_fit(choice: Choice, task: str, *, allow_general: bool) -> None:
    """A model tuned for one task cannot do another, and some tasks need a tuned one."""
    if choice.entry is not None and choice.contract and choice.entry.task != task:
        raise NoModelError(
            f"{choice.name} was made for {choice.entry.task} ({choice.contract}), not for {task}",
            f"leave out --model, or name one for {task}: `python agent.py models`",
        )
    if not choice.contract and task != CHAT and not allow_general:
        raise NoModelError(
            f"{choice.name} is a general model, {task} needs one that was made for it",
            "leave out --model, or register the model with its contract",
        )


def _general(here: Here, why: str = "") -> Choice:
    if name := here.settings.chat_model:
        named = _named(name, here, why=why or "named as chat_model in the settings")
        _must_fit(named, CHAT, allow_general=True)
        return named
    for entry in _best_first(CHAT):
        if choice := _place(entry, here, why=why or _registry_why(entry)):
            return choice
    if producers := _producers(here):
        return Choice(producers[0].name, "ollama", why or "the first chat model that Ollama has")
    raise _nothing(CHAT, here, allow_general=True)


def _producers(here: Here) -> list[InstalledModel]:
    """The daemon's general chat models that run on this machine; the registry's fine-tunes are none."""
    tuned = {(entry.ollama or entry.name).casefold() for entry in scan()[0] if entry.contract}
    return [model for model in here.models if can_chat(model) and not model.remote and model.name.casefold() not in tuned]


def _nothing(task: str, here: Here, *, allow_general: bool) -> NoModelError:
    """Why nothing serves a task, and the commands that would change it."""
    entries, problems = scan()
    mine = [entry for entry in entries if entry.task == task]
    active = [entry for entry in mine if entry.status == "active"]
    reasons = [f"{entry.name}: {_why_not(entry, here)}" for entry in active] + problems
    fixes = [_fix(entry, here) for entry in active]
    if not active:
        reasons.insert(0, f"the registry serves no model for {task}")
        fixes += [f"python agent.py registry promote {entry.name}" for entry in mine if entry.status == "candidate"]
    if allow_general:
        reasons.append(here.no_ollama or "Ollama has no general chat model")
        fixes.append("ollama serve" if here.no_ollama else "ollama pull qwen3:4b")
    fixes.append("name one: --model NAME (see `python agent.py models`)")
    return NoModelError(f"no model can serve {task} here: {'; '.join(reasons)}", " or ".join(dict.fromkeys(fixes)))


def _fix(entry: Entry, here: Here) -> str:
    """The command that would let an entry run."""
    if entry.gguf and here.no_embedded_place(entry) == here.no_embedded:
        return "pip install xllamacpp"
    if entry.gguf:
        return f"fetch or build {entry.gguf_path} again"
    if here.no_ollama:
        return "ollama serve"
    return f"create {entry.ollama} in Ollama (its entry has no GGUF to install)"


def _offers(task: str, here: Here, *, allow_general: bool) -> list[Offer]:
    try:
        chosen: Choice | None = _resolve(task, here, allow_general=allow_general)
    except (NoModelError, Offline, UsageError, InputError):
        chosen = None
    offers = []
    for entry in (entry for entry in scan()[0] if entry.task == task):
        place = _place(entry, here, why="")
        taken = chosen is not None and chosen.entry == entry
        if taken and chosen is not None:
            why = chosen.why
        elif place is None:
            why = _why_not(entry, here)
        else:
            why = "can run here" if entry.status == "active" else f"not served: {entry.status}"
        offers.append(Offer(task, entry.name, entry.status, entry.score, place.backend if place else None, taken, why))
    if allow_general or task == CHAT:
        offers += [
            Offer(task, model.name, "", None, "ollama", _is(chosen, model.name), "general chat model")
            for model in _producers(here)
        ]
    if chosen is not None and not any(offer.chosen for offer in offers):
        offers.append(Offer(task, chosen.name, "", None, chosen.backend, True, chosen.why))
    if not offers:
        offers.append(Offer(task, "", "", None, None, False, str(_nothing(task, here, allow_general=allow_general))))
    return sorted(offers, key=lambda offer: (not offer.chosen, offer.status == "retired"))


def _is(choice: Choice | None, name: str) -> bool:
    return choice is not None and choice.entry is None and choice.backend == "ollama" and choice.name == name
