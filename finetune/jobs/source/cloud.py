"""What the training scripts share: names on the hub, data from there, results to there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

AUTO = "auto"
_MODEL_FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt"]


def hub_name(given: str, usual: str) -> str:
    """A repository; ``auto`` is the one of that name of whoever HF_TOKEN belongs to."""
    if given != AUTO:
        return given
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return f"{HfApi().whoami()['name']}/{usual}"
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise SystemExit(f"error: nobody is logged in ({error}): give --secrets HF_TOKEN, or full names") from None


def data_folder(given: str) -> Path:
    """A data folder with train.jsonl and valid.jsonl: on disk, or a data set on the hub."""
    folder = Path(given)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        folder = Path(snapshot_download(hub_name(given, "qmd-query-expansion-data"), repo_type="dataset"))
    if missing := [name for name in ("train.jsonl", "valid.jsonl") if not (folder / name).is_file()]:
        raise SystemExit(f"error: {given}: lacks {missing[0]}: make it with finetune/dataset/prepare_data.py")
    return folder


def model_folder(given: str, usual: str = "") -> Path:
    """A model or adapter: on disk, or on the hub."""
    folder = Path(given)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        folder = Path(snapshot_download(hub_name(given, usual), allow_patterns=_MODEL_FILES))
    return folder


def push(folder: Path, given: str, usual: str) -> None:
    """Put a folder into a model repository of the hub; ``none`` leaves it where it is."""
    if given == "none":
        print(f"kept in {folder}")
        return
    from huggingface_hub import HfApi

    name = hub_name(given, usual)
    HfApi().create_repo(name, private=True, exist_ok=True)
    HfApi().upload_folder(repo_id=name, folder_path=str(folder), ignore_patterns=["checkpoint-*", "*.pt"])
    print(f"https://huggingface.co/{name}")


def load(base: str, *adapters: str) -> tuple[Any, Any]:
    """Model and tokenizer of a base with adapters merged into it, one after another."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    cuda = torch.cuda.is_available()
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16 if cuda else torch.float32)
    for adapter in adapters:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    return model.to("cuda" if cuda else "cpu"), AutoTokenizer.from_pretrained(base)
