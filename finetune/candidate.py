"""A finished GGUF as a candidate of the registry: what its entry says, and how both get there whole or not at all."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from finetune.chat_templates import Template
from harness.errors import InputError
from harness.registry import Entry, Gate, Gguf, write
from harness.registry_entry import place
from skills.annotate import mark
from skills.annotate.prompt import END
from skills.ask.prompt import CONTRACT as ASK
from skills.expand import prompt as expand

GATE = Gate(set="moves_dev", metric="macro_f1", minimum=0.742)
"""The macro-F1 of the linear baseline on the same set, below which nothing may be served."""
GATES = {
    expand.CONTRACT: Gate(set="expand_queries", metric="percentage", minimum=90.0),
    ASK: Gate(set="qa_test", metric="factual_accuracy", minimum=0.6),
}
"""Of /expand: our own queries, by the published rubric, as served. Of /ask: the set that ``finetune/eval.py ask --set
qa_test`` names so; the report (S2) has 0.62 before tuning and 0.81 after it, by its own measure."""
CHAT_CONTEXT = 4096
"""``num_ctx`` for chat contracts: the longest prompt and its answer fit."""
MARK_CONTEXT = 2048


def gguf_metadata(lineage: Mapping[str, str], contract: str, licence: str = "") -> dict[str, str]:
    """What the GGUF says of its own origin."""
    said = {"contract": contract, "general.license": licence}
    return {f"lineage.{key}": value for key, value in lineage.items()} | {key: text for key, text in said.items() if text}


def ollama_values(contract: str, template: Template | None, trained_context: int) -> dict[str, Any]:
    """``template`` and ``parameters`` of an entry: how Ollama serves the contract."""
    if contract == mark.CONTRACT:
        return {
            # "ollama run NAME 'We propose …'" then marks that one sentence
            "template": mark.first_pass("", ["{{ .Prompt }}"]) + mark.steps(["{{ .Prompt }}"])[0],
            "parameters": {"num_ctx": min(MARK_CONTEXT, trained_context), "num_predict": 1, "temperature": 0},
        }
    if contract == expand.CONTRACT:
        return {"template": expand.TEMPLATE, "parameters": expand_parameters(min(MARK_CONTEXT, trained_context))}
    assert template is not None, "chat contracts have a template"
    stops = [*template.stops, *([] if contract == ASK else [END])]
    parameters = {"num_ctx": min(CHAT_CONTEXT, trained_context), "temperature": 0.1, "stop": stops}
    return {"template": template.go, "parameters": parameters}


def expand_parameters(context: int) -> dict[str, Any]:
    """How Ollama runs /expand's model by itself: without grammar and drafts, so with a little against circling."""
    return {
        "num_ctx": context,
        "num_predict": expand.OUTPUT_TOKENS,
        "temperature": 0,
        "repeat_penalty": 1.1,
        "stop": list(expand.STOPS),
    }


def described(gguf: Path, name: str = "") -> Gguf:
    """Size and hash of a model file; ``name`` is what it is called beside its entry."""
    with gguf.open("rb") as handle:
        return Gguf(name or gguf.name, hashlib.file_digest(handle, "sha256").hexdigest(), gguf.stat().st_size)


def add_candidate(entry: Entry, gguf: Path, registry: Path) -> Entry:
    """Copy the GGUF beside the entry and write the entry as a candidate. Returns it as it lies in the registry.

    Raises InputError; then file and entry are as they were before.
    """
    tag = entry.name.rpartition(":")[2]
    folder = place(registry, entry.name)
    target, partial, old = (
        folder / f"{prefix}{tag}.gguf{end}" for prefix, end in (("", ""), (".", ".part"), (".", ".old"))
    )
    there_before = folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(gguf, partial)
        found = described(partial, target.name)
        if target.exists():
            target.replace(old)
        partial.replace(target)
        try:
            return write(replace(entry, status="candidate", gguf=found), registry)
        except (InputError, OSError):
            target.unlink()
            if old.exists():
                old.replace(target)
            raise
    except OSError as error:
        raise InputError(f"{target}: could not be written ({error.strerror})", "free some space and repeat") from None
    finally:
        partial.unlink(missing_ok=True)
        old.unlink(missing_ok=True)
        if not there_before and folder.exists() and not any(folder.iterdir()):
            folder.rmdir()
