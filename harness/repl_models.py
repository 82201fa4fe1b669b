"""Which models can be named after ``/model``: those of the registry and those that the Ollama daemon has."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from harness.config import Settings
from harness.errors import MarginaliaError


def available(settings: Settings) -> dict[str, str]:
    """Model names and where each comes from. A daemon that does not answer has none; asking it may take seconds."""
    from harness.models.ollama_daemon import OllamaDaemon
    from harness.registry import scan

    found = {entry.name: f"registry, {entry.task}" for entry in scan()[0] if entry.status != "retired"}
    daemon = OllamaDaemon(settings.ollama_host)
    try:
        if (daemon.local or not settings.offline) and daemon.reachable():
            for model in daemon.models():
                found.setdefault(model.name, f"ollama, {model.parameters}".rstrip(", "))
    except MarginaliaError:
        pass
    finally:
        daemon.close()
    return found


class ModelNames:
    """What ``fetch`` finds, kept for a minute; asking waits no longer than ``patience`` seconds.

    The daemon may be slow or gone, and prompt_toolkit waits for its completer's threads when a line is submitted: so
    the fetch has a thread of its own, and who asks meanwhile gets what was known before.
    """

    def __init__(
        self, fetch: Callable[[], Mapping[str, str]], *, keep_seconds: float = 60.0, patience: float = 1.0
    ) -> None:
        self._fetch = fetch
        self._keep = keep_seconds
        self._patience = patience
        self._lock = threading.Lock()
        self._names: Mapping[str, str] = {}
        self._stale_at = float("-inf")
        self._thread: threading.Thread | None = None

    def __call__(self) -> Mapping[str, str]:
        """Names and where each comes from, as far as they are known now."""
        with self._lock:
            if time.monotonic() >= self._stale_at and (self._thread is None or not self._thread.is_alive()):
                self._thread = threading.Thread(target=self._refresh, name="model-names", daemon=True)
                self._thread.start()
            thread = self._thread
        if thread is not None:
            thread.join(self._patience)
        return self._names

    def _refresh(self) -> None:
        try:
            self._names = self._fetch()
        except MarginaliaError:
            self._names = {}
        self._stale_at = time.monotonic() + self._keep
