"""The Ollama daemon: whether it runs, which models it has, what is loaded."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from harness.errors import MarginaliaError, ModelError
from harness.models.ollama_errors import explain, no_such_model
from harness.models.ollama_host import is_loopback, parse_host
from harness.models.ollama_stream import broken, refusal
from harness.registry_entry import normalise

if TYPE_CHECKING:
    import httpx
    import ollama

_CONNECT_SECONDS = 10.0


@dataclass(frozen=True)
class InstalledModel:
    """A model that the daemon has."""

    name: str
    """With its tag: ``x:latest``."""
    digest: str
    """``sha256:…`` of its manifest."""
    size: int
    """Bytes on disk."""
    family: str
    """Architecture, such as ``qwen3``."""
    parameters: str
    """As the daemon writes it, such as ``1.7B``."""
    capabilities: tuple[str, ...] = ()
    """``completion``, ``tools``, ``embedding`` …; empty where the daemon does not list them."""
    remote: str = ""
    """The host that really runs it; empty for a local model. Text sent to a remote one leaves this machine."""


@dataclass(frozen=True)
class ShownModel:
    """What ``/api/show`` tells of a model."""

    context: int
    """Tokens that it was trained for; 0 where the daemon does not say."""
    capabilities: tuple[str, ...]
    template: str
    parameters: str
    """PARAMETER lines of its Modelfile."""


class OllamaDaemon:
    """One daemon, by the rule of ``parse_host``; nothing is connected before the first call. Thread-safe."""

    def __init__(self, host: str = "", *, timeout: float = 600.0, keep_alive: str = "10m") -> None:
        """``timeout``: seconds without a sign of life. ``keep_alive``: how long a model stays loaded (``10m``, ``-1``).

        Raises UsageError for a host that is none.
        """
        self.url = parse_host(host)
        self.local = is_loopback(self.url)
        """Whether requests stay on this machine."""
        self.timeout = timeout
        self.keep_alive: str | int = int(keep_alive) if keep_alive.removeprefix("-").isdecimal() else keep_alive

    @cached_property
    def client(self) -> ollama.Client:
        """The package's client: no proxy and no redirect can lead a loopback request off this machine."""
        import httpx
        import ollama

        return ollama.Client(
            host=self.url,
            timeout=httpx.Timeout(self.timeout, connect=min(self.timeout, _CONNECT_SECONDS)),
            follow_redirects=False,
            trust_env=not self.local,
            verify=self.url.startswith("https:"),  # without TLS there is nothing to load certificates for
            # One connection a request: each can then be cut alone, and none goes stale while a model thinks.
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    @cached_property
    def http(self) -> httpx.Client:
        """The HTTP client below it, for fields and calls that the package does not have."""
        client: httpx.Client = self.client._client
        return client

    def reachable(self, seconds: float = 1.0) -> bool:
        """Whether a daemon answers within about ``seconds``. Never raises; imports nothing heavy when none listens."""
        address = urlsplit(self.url)
        try:
            if self.local:  # elsewhere a proxy may stand between
                socket.create_connection((address.hostname or "", address.port or 0), seconds).close()
            return bool(self._version(seconds))
        except (OSError, MarginaliaError):
            return False

    def version(self) -> str:
        """The daemon's version. Raises ModelUnavailable where none answers."""
        return self._version(self.timeout)

    def models(self) -> list[InstalledModel]:
        """All models that the daemon has. Raises ModelUnavailable, ModelError."""
        with self.translated():
            listed = self._get("/api/tags", self.timeout)["models"] or []
            return [_installed(entry) for entry in listed]

    def find(self, name: str) -> InstalledModel | None:
        """The model of that name (``x`` is ``x:latest``), or None."""
        return next((model for model in self.models() if model.name == normalise(name)), None)

    def require(self, name: str) -> InstalledModel:
        """As ``find``; a NoModelError that names the nearest models where there is none."""
        models = {model.name: model for model in self.models()}
        if found := models.get(normalise(name)):
            return found
        raise no_such_model(name, sorted(models))

    def show(self, name: str) -> ShownModel:
        """Context, capabilities, template and parameters of a model. Raises NoModelError, ModelError."""
        with self.translated(name):
            shown = self.client.show(name)
        return ShownModel(
            context=_trained_context(shown.modelinfo or {}),
            capabilities=tuple(shown.capabilities or ()),
            template=shown.template or "",
            parameters=shown.parameters or "",
        )

    def loaded_context(self, name: str) -> int:
        """Tokens of context that the loaded model really has; 0 where it is not loaded or the daemon does not say."""
        with self.translated(name):
            loaded = self.client.ps().models
        return next((entry.context_length or 0 for entry in loaded if entry.model == normalise(name)), 0)

    @contextlib.contextmanager
    def translated(self, model: str = "") -> Iterator[None]:
        """Turn what the package and its HTTP client raise into our errors."""
        import httpx
        import ollama

        try:
            yield
        except ollama.ResponseError as error:
            raise explain(max(error.status_code, 200), str(error.error), model=model) from None
        except (httpx.HTTPError, ConnectionError) as error:
            raise broken(error, self.url) from None
        except (ValueError, KeyError, TypeError, AttributeError):  # not the shape of Ollama's answers
            raise ModelError(f"{self.url} does not answer like Ollama", "check OLLAMA_HOST") from None

    def close(self) -> None:
        """Close the connections; loaded models stay for their ``keep_alive``."""
        if "http" in self.__dict__:
            self.http.close()

    def _version(self, seconds: float) -> str:
        with self.translated():
            return str(self._get("/api/version", seconds)["version"])

    def _get(self, path: str, seconds: float) -> Any:
        response = self.http.get(path, timeout=seconds)
        if response.status_code != 200:
            raise refusal(response.status_code, response.content, "")
        return response.json()


def _installed(entry: Mapping[str, Any]) -> InstalledModel:
    details = entry.get("details") or {}
    digest = str(entry.get("digest") or "")
    return InstalledModel(
        name=str(entry["name"]),
        digest=digest if not digest or ":" in digest else f"sha256:{digest}",
        size=int(entry.get("size") or 0),
        family=str(details.get("family") or ""),
        parameters=str(details.get("parameter_size") or ""),
        capabilities=tuple(map(str, entry.get("capabilities") or ())),
        remote=str(entry.get("remote_host") or ""),
    )


def _trained_context(info: Mapping[str, Any]) -> int:
    """``<architecture>.context_length``; any key that ends so where the architecture is not named."""
    named = info.get(f"{info.get('general.architecture', '')}.context_length")
    lengths = [named] if named else [value for key, value in info.items() if key.endswith(".context_length")]
    return next((int(length) for length in lengths if isinstance(length, int | float) and length > 0), 0)
