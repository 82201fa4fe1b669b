"""What can run models here and now: the Ollama daemon and its models, the embedded runtime. Asked once, when needed."""

from __future__ import annotations

from functools import cached_property
from types import TracebackType

from harness.config import Settings
from harness.errors import MarginaliaError, ModelError
from harness.models.ollama_daemon import InstalledModel, OllamaDaemon
from harness.registry_entry import Entry, normalise

NOT_FOR_CHAT = ("bert", "embed", "minilm")
"""Parts of the architecture or name of models that embed text; older daemons do not list what a model can do."""


class Here:
    """A snapshot of this machine for one question; ``with Here(settings) as here`` closes its connections."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.daemon = OllamaDaemon(settings.ollama_host, timeout=settings.timeout, keep_alive=settings.keep_alive)

    def __enter__(self) -> Here:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.daemon.close()

    @cached_property
    def _ollama(self) -> tuple[list[InstalledModel], str]:
        """The daemon's models, or none and why."""
        if self.settings.offline and not self.daemon.local:
            return [], f"Ollama at {self.daemon.url} is not asked: offline"
        if not self.daemon.reachable():
            return [], f"no Ollama answers at {self.daemon.url}"
        try:
            return self.daemon.models(), ""
        except MarginaliaError as error:
            return [], error.message

    @property
    def models(self) -> list[InstalledModel]:
        """The daemon's models; those that run elsewhere (cloud) are left out when offline."""
        return [model for model in self._ollama[0] if not (model.remote and self.settings.offline)]

    @property
    def no_ollama(self) -> str:
        """Why no daemon can be used; empty where one can."""
        return self._ollama[1]

    def installed(self, name: str) -> InstalledModel | None:
        """The daemon's model of this name."""
        wanted = normalise(name).casefold()
        return next((model for model in self.models if model.name.casefold() == wanted), None)

    @cached_property
    def no_embedded(self) -> str:
        """Why the embedded runtime cannot be used; empty where it can."""
        from harness.models.embedded import check

        try:
            check()
        except ModelError as error:
            return error.message
        return ""

    def no_ollama_place(self, entry: Entry) -> str:
        """Why an entry cannot run in Ollama; empty where it can."""
        if not entry.ollama:
            return "it has no Ollama tag"
        if self.no_ollama:
            return self.no_ollama
        return "" if self.installed(entry.ollama) else f"Ollama does not have {entry.ollama}"

    def no_embedded_place(self, entry: Entry) -> str:
        """Why an entry cannot run embedded; empty where it can. The hash is checked when the file is loaded."""
        path = entry.gguf_path
        if entry.gguf is None or path is None:
            return "it has no GGUF"
        try:
            size = path.stat().st_size
        except OSError:
            return f"{path} is missing"
        if size != entry.gguf.size:
            return f"{path} has {size} bytes instead of {entry.gguf.size}"
        return self.no_embedded


def can_chat(model: InstalledModel) -> bool:
    """Whether a daemon's model writes text (and does not only embed it)."""
    if model.capabilities:
        return "completion" in model.capabilities
    return not any(word in f"{model.family} {model.name}".casefold() for word in NOT_FOR_CHAT)
