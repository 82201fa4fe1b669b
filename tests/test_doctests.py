"""The examples in the docstrings are true."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
WITH_EXAMPLES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for package in ("harness", "skills", "curation", "finetune")
    for path in (ROOT / package).rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
    and not path.is_relative_to(ROOT / "finetune" / "jobs")  # generated from the others
)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples(name: str) -> None:
    if name.startswith(("finetune.sft.", "finetune.grpo.")):
        pytest.importorskip("torch", reason="needs the finetune extra")
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted
    assert not result.failed
