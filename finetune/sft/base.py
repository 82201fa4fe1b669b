"""The base model of a run: where it lies, what its ``config.json`` says, its hash. Nothing here loads weights."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.hf_checkpoint import read_json
from harness.config import ROOT
from harness.errors import InputError, Offline

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_HEX = re.compile(r"[0-9a-f]{64}")
FETCHED = ["*.json", "*.safetensors", "*.txt", "*.jinja", "README.md", "LICENSE*"]
"""Files of a hub model that are used: weights, tokenizer, and what its licence is."""
# Shapes of bases that the configurations name, from their config.json on the hub: a plan needs no download.
KNOWN: dict[str, dict[str, Any]] = {
    "Qwen/Qwen2.5-7B-Instruct": {
        "model_type": "qwen2",
        "vocab_size": 152064,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "max_position_embeddings": 32768,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    },
    "Qwen/Qwen2.5-3B-Instruct": {
        "model_type": "qwen2",
        "vocab_size": 151936,
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "max_position_embeddings": 32768,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
    },
    "Qwen/Qwen3-1.7B": {
        "model_type": "qwen3",
        "vocab_size": 151936,
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 40960,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
    },
    "Qwen/Qwen3-4B": {
        "model_type": "qwen3",
        "vocab_size": 151936,
        "hidden_size": 2560,
        "intermediate_size": 9728,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 40960,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
    },
}


@dataclass(frozen=True)
class Base:
    """A base as a run sees it."""

    name: str
    """As the configuration gives it."""
    folder: Path | None
    """Where its files lie; None when it is on the hub only."""
    shape: dict[str, Any] | None
    """Its ``config.json``; None where that is not known."""
    is_cached: bool = False
    """``folder`` is the hub's cache, and ``name`` the model's name there."""


def offline(asked: bool = False) -> bool:
    """True when nothing may be fetched: ``--offline``, or the variables of Hugging Face and ours."""
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "MARGINALIA_OFFLINE")
    return asked or any(os.environ.get(name, "").lower() in {"1", "true", "yes", "on"} for name in names)


def _cached(name: str) -> Path | None:
    """The newest snapshot of a hub model in the local cache, or None."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, "config.json")
    return Path(found).parent if isinstance(found, str) else None


def find(name: str) -> Base:
    """Look a base up on disk: a folder (relative to here or to the checkout), else the hub's cache. Raises InputError."""
    for folder in (Path(name), ROOT / name):
        if folder.is_dir():
            return Base(name, folder, read_json(folder / "config.json"))
    if not _HUB_NAME.fullmatch(name) or Path(name.split("/")[0]).is_dir():
        raise InputError(
            f"{name}: no such base folder", "give a folder with config.json and model.safetensors, or a hub name"
        )
    folder_or_none = _cached(name)
    shape = read_json(folder_or_none / "config.json") if folder_or_none else KNOWN.get(name)
    return Base(name, folder_or_none, shape, is_cached=folder_or_none is not None)


def fetch(base: Base, *, is_offline: bool) -> Base:
    """The base with its files on disk; a hub model that is not cached is downloaded, unless ``is_offline``."""
    if base.folder and weight_files(base.folder):
        return base
    if base.folder and not base.is_cached:
        raise InputError(f"{base.folder}: has no *.safetensors", "write it again with save_pretrained")
    if is_offline:
        raise Offline(f"{base.name}: is not on this machine", f"run once without --offline, or: hf download {base.name}")
    from huggingface_hub import snapshot_download

    folder = Path(snapshot_download(base.name, allow_patterns=FETCHED))
    return Base(base.name, folder, read_json(folder / "config.json"), is_cached=True)


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights, in order."""
    return sorted(folder.glob("model*.safetensors"))


def digest(path: Path) -> str:
    """``sha256:…`` of a file. In the hub's cache large files are links to blobs named by that hash: no reading needed."""
    if path.is_symlink() and _HEX.fullmatch(path.resolve().name):
        return f"sha256:{path.resolve().name}"
    with path.open("rb") as handle:
        return f"sha256:{hashlib.file_digest(handle, 'sha256').hexdigest()}"


def weights_digest(folder: Path) -> str:
    """The hash of a model's weights: of the file, or of the lines ``name hash`` where there are several."""
    files = weight_files(folder)
    if len(files) == 1:
        return digest(files[0])
    listing = "".join(f"{path.name} {digest(path)}\n" for path in files)
    return f"sha256:{hashlib.sha256(listing.encode()).hexdigest()}"
