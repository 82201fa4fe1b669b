"""Write a GGUF file tensor by tensor, a slice at a time: memory holds some slices, not a tensor and not the model.

The file is written beside its target and renamed when it is whole.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from finetune.quantise import encode
from harness.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from gguf import GGUFWriter
    from numpy.typing import NDArray

ALIGNMENT = 32
"""Bytes: where a tensor begins in the file is a multiple of it."""
SLICE = 1 << 21
"""Weights that are encoded at a time, a thread."""


@dataclass(frozen=True)
class Planned:
    """A tensor that the file will hold."""

    name: str
    shape: tuple[int, ...]
    storage: str
    """ggml's type, such as ``Q4_K``."""
    load: Callable[[int, int], NDArray[np.float32]]
    """The rows ``[start, stop)`` as float32."""
    source: str
    """Where the values come from, for error messages."""

    @property
    def count(self) -> int:
        """Weights in it."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Its size in the file, padding left out."""
        import gguf

        return math.prod(gguf.quants.quant_shape_to_byte_shape(self.shape, gguf.GGMLQuantizationType[self.storage]))

    def slices(self) -> Iterator[tuple[int, int]]:
        """Ranges of rows of about ``SLICE`` weights."""
        width = max(1, self.shape[-1])
        step = max(1, SLICE // width)
        for start in range(0, self.shape[0], step):
            yield start, min(start + step, self.shape[0])


def write_gguf(
    out: Path,
    architecture: str,
    describe: Callable[[GGUFWriter], None],
    tensors: Sequence[Planned],
    *,
    threads: int = 1,
    on_tensor: Callable[[], None] = lambda: None,
) -> Path:
    """Write ``out``: what ``describe`` adds to the header, then the tensors in their order. Returns ``out``.

    The bytes do not depend on ``threads``. Raises InputError where the file cannot be written or a value cannot be
    stored; an older ``out`` then stays as it was.
    """
    import gguf
    import numpy as np

    try:
        with tempfile.NamedTemporaryFile(dir=out.parent, prefix=f".{out.name}.", suffix=".part", delete=False) as handle:
            partial = Path(handle.name)
    except OSError as error:
        raise InputError(f"{out}: no file can be made there ({error.strerror})", "choose another folder") from None
    try:
        writer = gguf.GGUFWriter(partial, architecture)
        describe(writer)
        for tensor in tensors:
            kind = gguf.GGMLQuantizationType[tensor.storage]
            # the writer takes a quantised shape in bytes
            shape = gguf.quants.quant_shape_to_byte_shape(tensor.shape, kind) if kind > 1 else tensor.shape
            dtype = {"F32": np.float32, "F16": np.float16}.get(tensor.storage, np.uint8)
            writer.add_tensor_info(tensor.name, shape, np.dtype(dtype), tensor.bytes, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        writer.close()
        with partial.open("ab") as handle, ThreadPoolExecutor(threads) as pool:
            for tensor in tensors:
                _pad(handle)
                for stored in _encoded(tensor, pool, threads):
                    stored.tofile(handle)
                on_tensor()
            _pad(handle)
            handle.flush()
            os.fsync(handle.fileno())
        partial.chmod(0o644)
        partial.replace(out)
    except OSError as error:
        raise InputError(f"{out}: could not be written ({error.strerror or error})", "free some space and repeat") from None
    finally:
        partial.unlink(missing_ok=True)
    return out


def _pad(handle: IO[bytes]) -> None:
    handle.write(bytes(-handle.tell() % ALIGNMENT))


def _encoded(tensor: Planned, pool: ThreadPoolExecutor, threads: int) -> Iterator[NDArray[Any]]:
    """The stored slices in order; no more of them than threads are under way."""

    def one(bounds: tuple[int, int]) -> NDArray[Any]:
        return encode(tensor.load(*bounds), tensor.storage, f"{tensor.source}: {tensor.name}")

    waiting: deque[Future[NDArray[Any]]] = deque()
    for bounds in tensor.slices():
        waiting.append(pool.submit(one, bounds))
        if len(waiting) > threads:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
