"""The GGUFs of a release of /expand's model: base, SFT adapter and GRPO adapter merged in this order, then quantised.

Each merge is rounded to 16 bits, as ``finetune.merge`` does: GRPO was trained on the merged and rounded SFT weights, and
its adapter fits those alone. The chat template of contract expand@1 goes into every file, so that a Modelfile with a FROM
line and nothing else gives a usable model.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from finetune.merge import merge
from finetune.quantise import OutType, requantise
from harness.errors import InputError, Offline
from skills.expand.prompt import CHAT_TEMPLATE, CONTRACT

NAME = "qmd-query-expansion"
TYPES: tuple[OutType, ...] = ("f16", "q4_K_M", "q5_K_M", "q8_0")


@dataclass(frozen=True)
class Parts:
    """What a release is made of, as the user names it: folders, or names on the Hugging Face hub."""

    base: str
    sft: str = ""
    grpo: str = ""
    size: str = ""
    """As it stands in the names of the files; empty leaves it out."""
    output: str = ""

    @property
    def adapters(self) -> tuple[str, ...]:
        """In the order in which they are merged."""
        return tuple(name for name in (self.sft, self.grpo) if name)


def _preset(size: str) -> Parts:
    folder = f"finetune_output/qmd-{size}"
    return Parts(f"Qwen/Qwen3-{size}", f"{folder}/sft", f"{folder}/grpo", size, f"{folder}/gguf")


PRESETS = {size: _preset(size) for size in ("1.7B", "4B")}
"""Where ``train.py sft`` and ``grpo`` put their runs by finetune/configs/qmd-sft.yaml and qmd-grpo.yaml."""


def file_name(size: str, outtype: OutType) -> str:
    """The name of a file, in lower case but for the size.

    >>> file_name("1.7B", "q4_K_M")
    'qmd-query-expansion-1.7B-q4_k_m.gguf'
    """
    return "-".join(part for part in (NAME, size, outtype.lower()) if part) + ".gguf"


def adapter_folder(name: str, *, is_offline: bool) -> Path:
    """The folder of a run (with ``adapter/`` in it) or of an adapter; from the hub where it is not here.

    Raises InputError where it is neither, Offline where it would have to be fetched and must not be.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not any((place / "adapter_config.json").is_file() for place in (folder, folder / "adapter")):
            raise InputError(f"{folder}: holds no adapter", "name the output folder of finetune/train.py, or an adapter")
        return folder
    if name.count("/") != 1 or folder.parent.is_dir() or name.startswith((".", "~", "/")):
        raise InputError(f"{name}: no such adapter", "train it: python finetune/train.py sft --config …/qmd-sft.yaml")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(name, local_files_only=is_offline, allow_patterns=["*.json", "*.safetensors", "*.jinja"])
        )
    except LocalEntryNotFoundError:
        raise Offline(f"{name}: is not on this machine", f"run once without --offline, or: hf download {name}") from None
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise InputError(
            f"{name}: cannot be fetched ({str(error).splitlines()[0]})", "check the name and HF_TOKEN"
        ) from None


def release(
    base: Path,
    adapters: Sequence[Path],
    out: Path,
    *,
    size: str = "",
    types: Sequence[OutType] = TYPES,
    threads: int = 1,
    say: Callable[[str], None] = lambda line: None,
    on_tensor: Callable[[], None] = lambda: None,
) -> list[Path]:
    """Write one GGUF a type into the folder ``out`` and return their paths. Raises InputError.

    What is merged lies in a folder beside them until the files are written.
    """
    from finetune.convert_gguf import convert

    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out, prefix=".merged.") as scratch:
            model = base
            for number, adapter in enumerate(adapters, 1):
                say(f"merging {adapter}")
                model = merge(adapter, model, Path(scratch) / str(number), on_tensor=on_tensor)
            source = _with_template(model, Path(scratch) / "templated")
            metadata = {"general.name": f"{NAME}-{size}".rstrip("-"), "contract": CONTRACT}
            whole = Path(scratch) / "whole.gguf"
            say("converting")
            convert(source, whole, "f16", metadata=metadata, threads=threads, say=say, on_tensor=on_tensor)
            made = [
                _written(whole, out / file_name(size, kind), kind, threads, say, on_tensor)
                for kind in types
                if kind != "f16"
            ]
            if "f16" in types:
                made.insert(0, whole.replace(out / file_name(size, "f16")))
    except OSError as error:
        raise InputError(f"{out}: could not be written ({error.strerror or error})", "free some space and repeat") from None
    return made


def _written(
    whole: Path, path: Path, kind: OutType, threads: int, say: Callable[[str], None], on_tensor: Callable[[], None]
) -> Path:
    say(f"quantising {kind}")
    return requantise(whole, path, kind, threads=threads, say=say, on_tensor=on_tensor)


def _with_template(model: Path, folder: Path) -> Path:
    """A folder like ``model`` but for the chat template; its files are links, or copies where links cannot be made."""
    import shutil

    folder.mkdir()
    for file in model.iterdir():
        if file.is_file() and file.name != "chat_template.jinja":
            try:
                (folder / file.name).symlink_to(file.resolve())
            except OSError:
                shutil.copy2(file, folder / file.name)
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8", newline="\n")
    return folder
