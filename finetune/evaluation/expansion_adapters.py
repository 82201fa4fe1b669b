"""An adapter of GRPO whose base is not on disk as a model of its own: the SFT adapter has to be merged in first.

GRPO trains on the merged SFT weights. ``finetune/train.py grpo`` has them in a folder and its adapter names that. The cloud
script and QMD's own merge in memory: their adapter names the same base as the one of SFT, and put onto that base alone it
would be measured, without a word, on weights that it was never trained on.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from finetune.hf_checkpoint import read_json
from harness.errors import InputError


def base_named(spec: str) -> str:
    """The base that an adapter's folder names; empty for what is no such folder."""
    config = Path(spec).expanduser() / "adapter_config.json"
    return str(read_json(config).get("base_model_name_or_path") or "") if config.is_file() else ""


@contextmanager
def merged_after(spec: str, sft: str) -> Iterator[str]:
    """What to open for the model ``spec`` where ``sft`` came before it: ``spec`` itself, or base, SFT and it in one folder.

    The latter where both are adapters of one base; the folder goes afterwards. Raises InputError where that is not here.
    """
    base = base_named(spec)
    if not base or base != base_named(sft):
        yield spec
        return
    from finetune.merge import merge
    from finetune.sft.base import find

    folder = find(base).folder
    if folder is None:
        raise InputError(f"{base}: the base of both adapters is not on this machine", f"hf download {base}")
    with tempfile.TemporaryDirectory(prefix="marginalia-") as scratch:
        first = merge(Path(sft).expanduser(), folder, Path(scratch) / "sft")
        yield str(merge(Path(spec).expanduser(), first, Path(scratch) / "whole"))
