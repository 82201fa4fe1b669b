"""The parent's end of the PDF reader: starts the child, gives it one file after another, replaces it when it must."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from harness.errors import InputError
from harness.models.embedded_process import child_environment
from harness.search.documents import Document, from_json

ENCRYPTED = "is encrypted"
"""What stands in the error of a file that a password may open."""
MAX_PAGES = 2000
MAX_SECONDS = 20.0
_GRACE = 5.0
"""Seconds over the limit after which the child is killed: it looks at the clock only between two pages."""
_PATIENCE = 3.0
"""Seconds that the child may take to end before it is killed."""


@dataclass(frozen=True)
class Limits:
    """What one PDF may cost."""

    pages: int = MAX_PAGES
    seconds: float = MAX_SECONDS


class PdfReader:
    """One child process that reads PDFs; use it from one thread at a time, and close it."""

    def __init__(self, passwords: Sequence[str] = (), limits: Limits | None = None, grace: float = _GRACE) -> None:
        self._passwords = list(passwords)
        self._limits = limits or Limits()
        self._grace = grace
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def __enter__(self) -> PdfReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def read(self, path: Path) -> tuple[Document, list[str]]:
        """The paper in a PDF, and remarks. Raises InputError where it cannot be read, in whatever way."""
        limits = self._limits
        request = {"path": str(path), "passwords": self._passwords, "pages": limits.pages, "seconds": limits.seconds}
        answer = self._ask(path, json.dumps(request).encode() + b"\n")
        if "error" in answer:
            raise InputError(answer["error"], answer["remedy"])
        return from_json(answer["document"]), answer["notes"]

    def stop(self) -> None:
        """Kill the child from any thread: a ``read`` in another one then raises InputError."""
        self._stopped = True
        if (process := self._process) is not None:
            process.kill()

    def close(self) -> None:
        """End the child; closing twice is fine."""
        process, self._process = self._process, None
        if process is None:
            return
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _ask(self, path: Path, request: bytes) -> dict[str, Any]:
        process = self._started()
        if self._stopped:  # while it was being started
            process.kill()
        assert process.stdin is not None
        assert process.stdout is not None
        too_long = threading.Event()

        def stop() -> None:
            too_long.set()
            process.kill()

        timer = threading.Timer(self._limits.seconds + self._grace, stop)
        timer.start()
        try:
            with contextlib.suppress(OSError):  # it is gone: then no answer comes either
                process.stdin.write(request)
                process.stdin.flush()
            line = process.stdout.readline()
        except BaseException:  # Ctrl-C: nobody waits for the rest
            process.kill()
            raise
        finally:
            timer.cancel()
        if line.endswith(b"\n"):
            answer: dict[str, Any] = json.loads(line)
            return answer
        process.kill()
        self.close()
        if too_long.is_set():
            raise InputError(f"{path}: one of its pages takes more than {self._limits.seconds:.0f} s", "leave it out")
        raise InputError(f"{path}: the PDF library died of it", "print it to a new PDF, or leave it out")

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self.close()
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "harness.search.pdf_worker"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env=child_environment(),
                    start_new_session=True,  # Ctrl-C in the terminal reaches the parent alone
                )
            except OSError as error:
                raise InputError(f"the PDF reader cannot be started ({error.strerror})", "free some memory") from error
        return self._process
