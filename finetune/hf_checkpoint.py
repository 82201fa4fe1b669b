"""Tensors of a Hugging Face model folder through numpy alone, one at a time, memory-mapped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WIDTH = {"F32": 4, "F16": 2, "BF16": 2}
"""The stored types that hold plain weights, in bytes an element."""


def read_json(path: Path, remedy: str = "give a folder written by save_pretrained") -> dict[str, Any]:
    """An object from a JSON file; InputError names the file where that is not what it holds, and where it is missing the
    ``remedy``."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: missing", remedy) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error})", "write the folder again") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: not a JSON object", "write the folder again")
    return value


@dataclass(frozen=True)
class StoredTensor:
    """Where one tensor lies in its file; ``load`` reads it as float32."""

    path: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    """Of its first byte, from the start of the file."""

    def load(self, start: int = 0, stop: int | None = None) -> NDArray[np.float32]:
        """The values, or those of the rows ``[start, stop)``, as float32 (exact for each stored type)."""
        import numpy as np

        rows = len(range(*slice(start, stop).indices(self.shape[0])))
        width = int(np.prod(self.shape[1:], dtype=np.int64)) * WIDTH[self.dtype]
        shape = (rows, *self.shape[1:])
        if not rows * width:
            return np.zeros(shape, np.float32)
        raw = np.memmap(self.path, mode="r", dtype=np.uint8, offset=self.offset + start * width, shape=(rows * width,))
        if self.dtype == "BF16":  # the upper half of a float32
            bits = raw.view("<u2").astype(np.uint32) << np.uint32(16)
            return bits.view(np.float32).reshape(shape)
        stored: NDArray[Any] = raw.view("<f4" if self.dtype == "F32" else "<f2").reshape(shape)
        return stored.astype(np.float32)


def _read_header(path: Path) -> Iterator[StoredTensor]:
    """The tensors of one .safetensors file: eight bytes of header length, a JSON header, the data."""
    try:
        size = path.stat().st_size
        with path.open("rb") as handle:
            length = int.from_bytes(handle.read(8), "little")
            header = json.loads(handle.read(length)) if length <= size - 8 else None
    except FileNotFoundError:
        raise InputError(f"{path}: missing", "write the folder again with save_pretrained") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError):
        header = None
    if not isinstance(header, dict):
        raise InputError(f"{path}: damaged safetensors header", "write the folder again with save_pretrained")
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if entry["dtype"] not in WIDTH:
            raise InputError(
                f"{path}: tensor {name} is stored as {entry['dtype']}",
                "merge into a base loaded in 16 or 32 bits, not into a quantised one",
            )
        start, end = entry["data_offsets"]
        if 8 + length + end > size:
            raise InputError(f"{path}: cut short before the end of tensor {name}", "copy the file again")
        yield StoredTensor(path, name, entry["dtype"], tuple(entry["shape"]), 8 + length + start)


def read_tensors(folder: Path, stem: str = "model") -> dict[str, StoredTensor]:
    """Every tensor of ``STEM.safetensors``, or of the shards that ``STEM.safetensors.index.json`` names.

    Raises InputError for a missing, damaged or quantised file.
    """
    index = folder / f"{stem}.safetensors.index.json"
    files = [f"{stem}.safetensors"]
    if index.is_file():
        files = sorted(set(read_json(index)["weight_map"].values()))
        if outside := [name for name in files if Path(name).name != name]:
            raise InputError(f"{index}: shard {outside[0]!r} is not a file of this folder", "correct the index")
    return {tensor.name: tensor for name in files for tensor in _read_header(folder / name)}
