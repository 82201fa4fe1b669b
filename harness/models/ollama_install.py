"""Put a GGUF into a running Ollama: hash, upload, create, and look whether it is there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.errors import InputError, ModelError, UsageError
from harness.models.ollama_daemon import OllamaDaemon
from harness.models.ollama_stream import refusal

OnProgress = Callable[[str, int, int], None]
"""Called with what is done now, and bytes done and in all (0, 0 where there is nothing to count)."""

_CHUNK = 1 << 20


def install(
    daemon: OllamaDaemon,
    name: str,
    gguf: Path,
    *,
    template: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    system: str | None = None,
    license: str | None = None,
    on_progress: OnProgress = lambda status, done, total: None,
) -> None:
    """Create the model ``name`` from a GGUF, so that ``ollama run NAME`` works. An existing one is replaced.

    ``template`` is a Go template; None leaves it to the GGUF's own. ``parameters`` are checked here, since the daemon
    stores any and then fails on every request.
    Raises InputError (the file), UsageError (name, parameters), ModelUnavailable, ModelError.
    """
    _check_parameters(parameters or {})
    digest = f"sha256:{_sha256(gguf, on_progress)}"
    with daemon.translated(name):
        present = daemon.http.head(f"/api/blobs/{digest}").status_code == 200
    if not present:
        _upload(daemon, name, gguf, digest, on_progress)
    body = {"template": template, "parameters": parameters or None, "system": system, "license": license}
    last = ""
    try:
        for last, done, total in _create(daemon, name, digest, body):
            on_progress(last, done, total)
    except InputError as error:
        raise InputError(f"{gguf}: {error.message}", error.remedy) from None
    if last != "success" or daemon.find(name) is None:
        raise ModelError(f"Ollama did not finish creating {name}", "see the daemon's log, then install it again")


def _sha256(gguf: Path, on_progress: OnProgress) -> str:
    """Hash of the file, which must at least begin like a GGUF: gigabytes of something else are not uploaded."""
    try:
        with gguf.open("rb") as file:
            if file.read(4) != b"GGUF":
                raise InputError(f"{gguf}: not a GGUF file", "convert the model to GGUF first")
        sha = hashlib.sha256()
        for piece in _pieces(gguf, "hashing", on_progress):
            sha.update(piece)
    except OSError as error:
        raise InputError(f"{gguf}: cannot be read ({error.strerror})", "check the path") from None
    return sha.hexdigest()


def _upload(daemon: OllamaDaemon, name: str, gguf: Path, digest: str, on_progress: OnProgress) -> None:
    try:
        with daemon.translated(name):
            response = daemon.http.post(
                f"/api/blobs/{digest}",
                content=_pieces(gguf, "uploading", on_progress),
                headers={"Content-Length": str(gguf.stat().st_size), "Content-Type": "application/octet-stream"},
            )
    except OSError as error:
        raise InputError(f"{gguf}: cannot be read ({error.strerror})", "check the path") from None
    if response.status_code not in (200, 201):
        raise refusal(response.status_code, response.content, name)


def _create(daemon: OllamaDaemon, name: str, digest: str, body: Mapping[str, Any]) -> Iterator[tuple[str, int, int]]:
    """What the daemon says while it creates the model; an error line of the stream is raised."""
    files = {"model.gguf": digest}  # the suffix tells the format; the file's own name stays here
    with daemon.translated(name):
        for status in daemon.client.create(name, files=files, stream=True, **body):
            yield status.status or "", status.completed or 0, status.total or 0


def _pieces(gguf: Path, doing: str, on_progress: OnProgress) -> Iterator[bytes]:
    """The file's bytes; progress is told after each piece was taken."""
    total, done = gguf.stat().st_size, 0
    with gguf.open("rb") as file:
        while piece := file.read(_CHUNK):
            yield piece
            done += len(piece)
            on_progress(doing, done, total)


def _check_parameters(parameters: Mapping[str, Any]) -> None:
    """Types as the daemon wants them. Raises UsageError for the first one that is wrong."""
    import ollama
    from pydantic import ValidationError

    try:
        ollama.Options.model_validate(dict(parameters), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(
            f"parameter {first['loc'][0]} = {parameters[str(first['loc'][0])]!r} cannot be used ({first['msg']})",
            "correct it in the registry entry or Modelfile",
        ) from None
