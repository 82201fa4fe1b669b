"""``doctor``: is everything in place? Each check says what it found and, where something is wrong, what to do.

Exit 1 only where the main job, /annotate, could not run.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from harness.errors import Exit, MarginaliaError

if TYPE_CHECKING:
    from harness.config import Settings
    from harness.models.base import Reply
    from harness.registry_entry import Entry

State = Literal["ok", "warning", "problem"]
OLDEST_PYTHON = (3, 11)
LEAST_FREE = 500 * 1024 * 1024
"""Bytes of disk below which a job could end for want of space."""
GENERAL_REMEDY = "ollama pull qwen3:4b"
MAIN_TASK = "annotate"


@dataclass(frozen=True)
class Finding:
    """What one check found. A ``problem`` keeps /annotate from running, a ``warning`` only something else."""

    check: str
    state: State
    detail: str
    remedy: str = ""


def main(argv: Sequence[str], settings: Settings) -> int:
    """Run all checks, one line each on stdout. Exit 0, or 1 where /annotate could not run."""
    from harness.arguments import Parser
    from harness.console import show_records

    parser = Parser(
        prog="marginalia doctor", description="Checks whether everything is in place.", epilog="example: doctor --json"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    as_json = parser.parse_args(list(argv)).json or settings.json
    healthy = True
    for finding in examine(settings):
        healthy = healthy and finding.state != "problem"
        if as_json:
            show_records([asdict(finding)])
        else:
            _show(finding)
    return Exit.DONE if healthy else Exit.FAILED


def _show(finding: Finding) -> None:
    from harness.console import clean, stdout_console, stdout_is_terminal

    line = f"{finding.state:<8} {finding.check}: {finding.detail}"
    remedy = f"\n         → {finding.remedy}" if finding.remedy else ""
    if stdout_is_terminal():
        style = {"ok": "green", "warning": "yellow", "problem": "red"}[finding.state]
        stdout_console().print(line + remedy, style=style)
    else:
        sys.stdout.write(clean(line + remedy) + "\n")
        sys.stdout.flush()


def examine(settings: Settings) -> Iterator[Finding]:
    """All findings, as they come."""
    from harness.config import home

    yield check_python(sys.version_info[:3])
    yield check_folder("data folder", home(), "problem", "set MARGINALIA_HOME to a folder that you may write")
    yield check_folder("working folder", Path.cwd(), "warning", "results cannot be saved here: work in another folder")
    yield check_space(home())
    yield from _check_models(settings)


def _check_models(settings: Settings) -> Iterator[Finding]:
    """Ollama, the embedded runtime, the registry, and what of it serves the main job."""
    from harness import registry

    yield from check_ollama(settings)
    entries, problems = registry.scan()
    yield from (Finding("registry", "warning", line, "correct or remove the entry") for line in problems)
    for entry in entries:
        yield from _check_entry(entry)
    embedded = check_embedded(entries, settings)
    yield embedded
    yield check_main(settings, embedded)


def check_python(version: tuple[int, ...]) -> Finding:
    """This Python is one that the program is written for."""
    text = ".".join(map(str, version))
    if version < OLDEST_PYTHON:
        return Finding("Python", "problem", text, f"install Python {'.'.join(map(str, OLDEST_PYTHON))} or newer")
    return Finding("Python", "ok", text)


def check_folder(name: str, folder: Path, bad: State, remedy: str) -> Finding:
    """A file can be made in ``folder`` (which is made where it is missing)."""
    import tempfile

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Finding(name, bad, f"{folder}: cannot be written ({error.strerror})", remedy)
    return Finding(name, "ok", str(folder))


def check_space(folder: Path) -> Finding:
    """There is room on the disk that holds ``folder``, or the nearest folder above that exists."""
    import shutil

    folder = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(folder).free
    detail = f"{free / 2**30:.1f} GB free"
    if free < LEAST_FREE:
        return Finding("disk", "warning", detail, f"free some space on the disk of {folder}")
    return Finding("disk", "ok", detail)


def check_ollama(settings: Settings) -> Iterator[Finding]:
    """The daemon answers, and has a general chat model. Neither is needed by the bundled models."""
    from harness.models.ollama_daemon import OllamaDaemon

    try:
        daemon = OllamaDaemon(settings.ollama_host)
        if settings.offline and not daemon.local:
            yield Finding("Ollama", "warning", f"{daemon.url} is not asked: offline", "leave out --offline")
            return
        if not daemon.reachable():
            yield Finding(
                "Ollama",
                "warning",
                f"no daemon answers at {daemon.url}; the bundled models run without",
                "start it (ollama serve), or install it from https://ollama.com/download",
            )
            return
        yield Finding("Ollama", "ok", f"version {daemon.version()} at {daemon.url}")
        names = [model.name for model in daemon.models()]
        yield Finding("models in Ollama", "ok", ", ".join(names) or "none")
    except MarginaliaError as error:
        yield _of_error("Ollama", "warning", error)
        return
    yield check_chat(settings)


def check_chat(settings: Settings) -> Finding:
    """A general chat model is there for plain text and for skills that need one."""
    from harness.models.resolve import CHAT, resolve

    try:
        choice = resolve(CHAT, settings, allow_general=True)
    except MarginaliaError as error:
        return Finding("chat model", "warning", error.message, GENERAL_REMEDY)
    return Finding("chat model", "ok", f"{choice.name} ({choice.backend})")


def _check_entry(entry: Entry) -> Iterator[Finding]:
    """The model file of a registry entry is the one that was registered."""
    from harness.registry import verify

    problems = verify(entry)
    for problem in problems:
        detail, _, remedy = problem.rpartition("; ")
        yield Finding(f"registry {entry.name}", "warning", detail or problem, remedy)
    if not problems:
        what = "file verified by its sha256" if entry.gguf else f"in Ollama as {entry.ollama or entry.name}"
        yield Finding(f"registry {entry.name}", "ok", f"{entry.status}, {what}")


def check_embedded(entries: Sequence[Entry], settings: Settings) -> Finding:
    """llama.cpp loads, and where a registry model lies here, really generates a token with it."""
    from harness.models.embedded import runtime_info

    name = "embedded runtime"
    try:
        info = runtime_info()
        detail = f"{info.get('package', 'llama.cpp')} {info.get('version', '')}, {'GPU' if info.get('gpu') else 'CPU'}"
        usable = sorted(
            (entry for entry in entries if entry.gguf and entry.status == "active"),
            key=lambda entry: (entry.task != MAIN_TASK, -(entry.score or 0.0)),
        )
        if not usable:
            return Finding(name, "ok", f"{detail}; no registered model file to try it with")
        reply = _generate(usable[0], settings)
    except MarginaliaError as error:
        return _of_error(name, "warning", error)
    return Finding(name, "ok", f"{detail}; {usable[0].name} generated a token in {reply.seconds:.1f} s")


def _generate(entry: Entry, settings: Settings) -> Reply:
    """One token from the model file of ``entry``."""
    from harness.models.base import Options, Request
    from harness.models.embedded import EmbeddedModel

    path, digest = entry.gguf_path or Path(), entry.gguf.sha256 if entry.gguf else ""
    model = EmbeddedModel(path, name=entry.name, sha256=digest, slots=1, threads=settings.threads)
    try:
        return model.generate(Request(prompt="A test.", options=Options(max_tokens=1)))
    finally:
        model.close()


def check_main(settings: Settings, embedded: Finding) -> Finding:
    """A model is here that can do the main job."""
    from harness.models.resolve import resolve

    name = f"/{MAIN_TASK}"
    try:
        choice = resolve(MAIN_TASK, settings, allow_general=True)
    except MarginaliaError as error:
        return _of_error(name, "problem", error)
    if choice.backend == "embedded" and embedded.state != "ok":
        return Finding(name, "problem", f"{choice.name} needs the embedded runtime, which does not work", embedded.remedy)
    return Finding(name, "ok", f"runs with {choice.name} ({choice.backend}): {choice.why}")


def _of_error(check: str, state: State, error: MarginaliaError) -> Finding:
    return Finding(check, state, error.message, error.remedy)
