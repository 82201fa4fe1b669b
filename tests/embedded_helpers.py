"""Requests and process look-ups that the tests of the embedded backend share."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.models.base import Message, Options, Request
from harness.models.embedded import EmbeddedModel

LONG = Options(max_tokens=1900)
"""Enough tokens to be interrupted in."""


def raw(prompt: str, *, session: str | None = None, **options: Any) -> Request:
    return Request(prompt=prompt, options=replace(Options(max_tokens=12), **options), session=session)


def chat(text: str, **options: Any) -> Request:
    return replace(raw("", **options), prompt=None, messages=(Message("system", "Be short."), Message("user", text)))


def child_pid(model: EmbeddedModel) -> int:
    assert model._child is not None
    return model._child.pid


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def eventually(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < end:
        time.sleep(0.01)
    return met
