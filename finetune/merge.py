"""Merge a LoRA adapter into the 16-bit weights of its base, with numpy, one tensor at a time:

    python -m finetune.merge finetune_output/annotator --base registry/marginalia-base/mini --out finetune_output/merged

An adapter that was trained on a 4-bit copy is merged into the base's own weights, never into the copy: that would round
twice. Every product is computed in float32 and rounded once. New tokens (PEFT's ``trainable_token_indices``) get their
rows, a tied head stays tied, and tokenizer, chat template, generation config and labels go along. An adapter that does
something else than LoRA, or belongs to another base, is refused.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, get_args

from finetune.gguf_arch import EMBEDDING, HEAD, is_tied
from finetune.hf_checkpoint import StoredTensor, read_json, read_tensors
from finetune.lora import Adapter, read_adapter
from finetune.progress import counting
from finetune.sft.base import weights_digest
from harness.arguments import guarded
from harness.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Width = Literal["f16", "bf16", "f32"]
_STORED = {"f16": ("F16", 2, "float16"), "bf16": ("BF16", 2, "bfloat16"), "f32": ("F32", 4, "float32")}
"""Type and bytes in safetensors, name in config.json."""
TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
)
"""Taken together from the adapter, which may have added tokens, else from the base."""
COMPANIONS = ("generation_config.json", "labels.json", "LICENSE")
"""Each from the adapter, else from the base."""


def merge(
    run: Path,
    base: Path,
    out: Path,
    *,
    width: Width = "f16",
    on_tensor: Callable[[], None] = lambda: None,
) -> Path:
    """Write the merged model into the folder ``out`` (built beside it, then renamed) and return ``out``.

    ``run`` holds ``adapter/``, or is an adapter itself. Where the trainer wrote ``lineage.json``, its ``base`` is compared
    with the hash of the base's weights. Raises InputError; ``out`` is then as it was.
    """
    adapter = read_adapter(run / "adapter" if (run / "adapter").is_dir() else run)
    config = read_json(base / "config.json")
    if config.get("quantization_config"):
        raise InputError(f"{base}: its weights are quantised", "give the base in 16 or 32 bits that it was made from")
    _check_base(run, base)
    stored = read_tensors(base)
    if is_tied(config):
        _check_tied(adapter)
        stored.pop(HEAD, None)
    rows = _vocabulary(adapter.folder if (adapter.folder / "tokenizer.json").is_file() else base, stored[EMBEDDING])
    adapter.check(stored, rows)
    if out.exists() and not (out / "config.json").is_file():
        raise InputError(f"{out}: exists and is no model folder", "choose another name")
    try:
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as scratch:
            folder = Path(scratch) / out.name
            folder.mkdir()
            _write_weights(folder, stored, adapter, rows, width, on_tensor)
            _write_companions(folder, adapter.folder, base, {**config, "vocab_size": rows}, width)
            if out.exists():
                out.rename(Path(scratch) / "old")
            folder.rename(out)
    except OSError as error:
        raise InputError(f"{out}: could not be written ({error.strerror or error})", "free some space and repeat") from None
    return out


def _check_base(run: Path, base: Path) -> None:
    """The base's hash is the one that the trainer recorded, where it did."""
    lineage = run / "lineage.json"
    recorded = str(read_json(lineage).get("base", "")) if lineage.is_file() else ""
    if recorded and recorded != (found := weights_digest(base)):
        message = f"{run / 'adapter'}: was trained on another base ({recorded[:19]}…, {base} is {found[:19]}…)"
        raise InputError(message, "give the base that the run's config.yaml names")


def _check_tied(adapter: Adapter) -> None:
    """A head that is tied to the embeddings must not have been trained apart from them."""
    import numpy as np

    head, embedding = HEAD.removesuffix(".weight"), EMBEDDING.removesuffix(".weight")
    for part in adapter.parts(head):
        one, other = adapter.load(head, part), adapter.load(embedding, part)
        if one is None or other is None or not np.array_equal(one, other):
            remedy = "train it with ensure_weight_tying, or untie the base first"
            raise InputError(
                f"{adapter.folder}: the output head was trained apart from the embeddings it is tied to", remedy
            )
    adapter.drop(head)


def _vocabulary(folder: Path, embedding: StoredTensor) -> int:
    """Rows that the embeddings need: those they have, or more where the tokenizer has grown."""
    tokenizer = read_json(folder / "tokenizer.json")
    try:
        ids: list[int] = [*tokenizer["model"]["vocab"].values(), *(token["id"] for token in tokenizer["added_tokens"])]
    except (KeyError, TypeError, AttributeError):
        raise InputError(f"{folder / 'tokenizer.json'}: not in the shape of a fast tokenizer", "write it again") from None
    return max(embedding.shape[0], max(ids) + 1)


def _shape(tensor: StoredTensor, rows: int) -> tuple[int, ...]:
    """Embeddings and head grow with the tokenizer."""
    return (rows, *tensor.shape[1:]) if tensor.name in {EMBEDDING, HEAD} else tensor.shape


def _write_weights(
    folder: Path,
    stored: Mapping[str, StoredTensor],
    adapter: Adapter,
    rows: int,
    width: Width,
    on_tensor: Callable[[], None],
) -> None:
    """One file for each of the base's, with the same name, and the index where there are several."""
    files: dict[str, list[StoredTensor]] = {}
    for tensor in stored.values():
        files.setdefault(tensor.path.name, []).append(tensor)
    dtype, size, _ = _STORED[width]
    place, total = {}, 0
    for name, tensors in files.items():
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        offset = 0
        for tensor in tensors:
            shape = _shape(tensor, rows)
            end = offset + size * math.prod(shape)
            header[tensor.name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, end]}
            offset, place[tensor.name] = end, name
        total += offset
        with (folder / name).open("wb") as handle:
            text = json.dumps(header, separators=(",", ":")).encode()
            text += b" " * (-len(text) % 8)
            handle.write(len(text).to_bytes(8, "little") + text)
            for tensor in tensors:
                _write_tensor(handle, adapter.merged(tensor, _shape(tensor, rows)), width, f"{tensor.path}: {tensor.name}")
                on_tensor()
    if len(files) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(place.items()))}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


def _write_tensor(handle: IO[bytes], values: NDArray[np.float32], width: Width, what: str) -> None:
    """Round once and write. InputError for what is not finite or does not fit."""
    import gguf
    import numpy as np

    if not np.isfinite(values).all():
        raise InputError(f"{what}: merged, it holds values that are no finite numbers", "look at the training")
    with np.errstate(over="ignore"):
        rounded: NDArray[Any] = gguf.quants.quantize(values, gguf.GGMLQuantizationType[width.upper()])
    if width == "f16" and not np.isfinite(rounded).all():
        raise InputError(f"{what}: merged, it holds values that f16 cannot", "repeat with --width bf16")
    np.ascontiguousarray(rounded).tofile(handle)


def _write_companions(folder: Path, adapter: Path, base: Path, config: Mapping[str, Any], width: Width) -> None:
    """Everything beside the weights that makes a model folder."""
    source = adapter if (adapter / "tokenizer.json").is_file() else base
    for name in (*TOKENIZER, *COMPANIONS):
        places = [source] if name in TOKENIZER else [adapter, base]
        if found := next((place / name for place in places if (place / name).is_file()), None):
            shutil.copyfile(found, folder / name)
    values = {key: value for key, value in config.items() if key != "torch_dtype"} | {"dtype": _STORED[width][2]}
    (folder / "config.json").write_text(json.dumps(values, indent=1, sort_keys=True) + "\n", encoding="utf-8")


@guarded
def main(argv: list[str] | None = None) -> int:
    """Exit 0 when the folder is written, else the error's own code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the trainer's output folder, which has adapter/")
    parser.add_argument("--base", type=Path, required=True, help="folder of the base in 16 or 32 bits")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--width", choices=get_args(Width), default="f16")
    args = parser.parse_args(argv)
    with counting(None, "tensors") as on_tensor:
        merge(args.run, args.base, args.out, width=args.width, on_tensor=on_tensor)
    print(f"{args.out}: merged", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
