"""Which type each tensor of a GGUF gets, its bytes, and one GGUF from another:

    python -m finetune.quantise nanda-annotator.gguf --type q4_K_M --out nanda-annotator-q4_K_M.gguf

The choice of types is that of llama.cpp's ``llama-quantize`` without an importance matrix (src/llama-quant.cpp): the
K mixtures give some layers' value and down projections, and the output head, more bits; a row whose length a type cannot
take falls back to a smaller block, then to F16, and it is said. The bytes are those of ggml's reference quantiser.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from harness.arguments import guarded
from harness.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from gguf import GGUFReader, GGUFWriter
    from numpy.typing import NDArray

OutType = Literal["f32", "f16", "bf16", "q8_0", "q6_K", "q5_K_M", "q5_0", "q4_K_M", "q4_0"]
"""File types, most bits first."""
BLOCK = {
    "F32": 1,
    "F16": 1,
    "BF16": 1,
    "Q4_0": 32,
    "Q5_0": 32,
    "Q5_1": 32,
    "Q8_0": 32,
    "Q4_K": 256,
    "Q5_K": 256,
    "Q6_K": 256,
}
"""Weights of a row that a type stores together."""
FALLBACK = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
_LAYER = re.compile(r"blk\.(\d+)\.(attn_v|ffn_down)\.weight")


def as_outtype(text: str) -> OutType:
    """A file type written in any case. Raises InputError.

    >>> as_outtype("Q4_k_m")
    'q4_K_M'
    """
    for known in get_args(OutType):
        if known.casefold() == text.strip().casefold():
            return cast(OutType, known)
    raise InputError(f"{text!r} is not a type", f"one of {', '.join(get_args(OutType))}")


def more_bits(layer: int, layers: int) -> bool:
    """Whether a K mixture gives this layer's sensitive matrices more bits: the first and last eighth, then every third."""
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


def wanted_type(name: str, width: int, outtype: OutType, layers: int, *, tied: bool, shared_values: bool = False) -> str:
    """ggml's type for a matrix of the GGUF, before rows that do not divide are looked at.

    ``tied``: the file has no ``output.weight``. ``shared_values``: an 80-layer model with grouped-query attention, whose
    value matrices llama.cpp keeps at five bits or more.
    """
    plain = outtype.removesuffix("_M").upper()
    if outtype in {"f32", "f16", "bf16"}:
        return plain
    if name == ("token_embd.weight" if tied else "output.weight"):
        if width % BLOCK[plain] or plain == "Q8_0":
            return "Q8_0"
        return "Q6_K"
    found = _LAYER.fullmatch(name)
    if found and outtype in {"q4_K_M", "q5_K_M"}:
        if more_bits(int(found[1]), layers):
            plain = "Q6_K"
        elif found[2] == "attn_v" and plain == "Q4_K" and shared_values:
            plain = "Q5_K"
    return plain


def storage_types(
    shapes: Mapping[str, tuple[int, ...]], outtype: OutType, layers: int, *, shared_values: bool = False
) -> tuple[dict[str, str], list[str]]:
    """The type of each tensor (GGUF names, shapes as numpy has them), and a line for every one that had to fall back.

    Vectors and normalisations stay F32.
    """
    tied = "output.weight" not in shapes
    types, notes = {}, []
    for name, shape in shapes.items():
        if len(shape) < 2 or name.endswith("_norm.weight"):
            types[name] = "F32"
            continue
        width = shape[-1]
        wanted = wanted_type(name, width, outtype, layers, tied=tied, shared_values=shared_values)
        chosen = wanted if width % BLOCK[wanted] == 0 else FALLBACK.get(wanted, "F16")
        chosen = chosen if width % BLOCK[chosen] == 0 else "F16"
        if chosen != wanted:
            notes.append(f"{name}: rows of {width} cannot be {wanted}, stored as {chosen}")
        types[name] = chosen
    return types, notes


def shares_values(architecture: str, layers: int, heads: int, kv_heads: int) -> bool:
    """Whether llama.cpp takes the model for a 70B one (see ``wanted_type``)."""
    return architecture in {"llama", "qwen2"} and layers == 80 and (architecture == "qwen2" or heads != kv_heads)


def file_type(outtype: OutType) -> int:
    """llama.cpp's number for ``general.file_type``."""
    import gguf

    return int(gguf.LlamaFileType["ALL_F32" if outtype == "f32" else f"MOSTLY_{outtype.upper()}"])


def encode(values: NDArray[np.float32], storage: str, what: str) -> NDArray[Any]:
    """Rows as ggml stores them. Raises InputError, beginning with ``what``, where a value is not finite or overflows."""
    import gguf
    import numpy as np

    from finetune import k_quants

    if not np.isfinite(values).all():
        raise InputError(f"{what} holds values that are no finite numbers", "look at the training; nothing was written")
    if storage in k_quants.BLOCK_BYTES:
        return k_quants.quantise(values, storage)
    with np.errstate(over="ignore"):  # what overflows F16 is found right below
        stored: NDArray[Any] = gguf.quants.quantize(values, gguf.GGMLQuantizationType[storage])
    if storage == "F16" and not np.isfinite(stored).all():
        raise InputError(f"{what} holds values that F16 cannot", "export f32 or bf16, or look at the training")
    return np.ascontiguousarray(stored)


def requantise(
    source: Path,
    out: Path,
    outtype: OutType,
    *,
    threads: int = 1,
    say: Callable[[str], None] = lambda line: None,
    on_tensor: Callable[[], None] = lambda: None,
) -> Path:
    """Write an F32, F16 or BF16 GGUF as another type; everything else in it stays. Returns ``out``.

    ``say`` is told every fallback. Raises InputError for a damaged or already quantised source.
    """
    import gguf

    from finetune.gguf_file import Planned, write_gguf

    try:
        reader = gguf.GGUFReader(source)
        architecture = str(reader.fields["general.architecture"].contents())
        layers = int(reader.fields[f"{architecture}.block_count"].contents())
        heads = [int(reader.fields[f"{architecture}.attention.head_count{kind}"].contents()) for kind in ("", "_kv")]
    except FileNotFoundError:
        raise InputError(f"{source}: missing", "name a GGUF file") from None
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise InputError(f"{source}: cannot be read as a GGUF model ({error})", "convert the model again") from None
    shapes = {tensor.name: tuple(int(n) for n in reversed(tensor.shape)) for tensor in reader.tensors}
    if quantised := [t.name for t in reader.tensors if t.tensor_type.name not in {"F32", "F16", "BF16"}]:
        raise InputError(f"{source}: {quantised[0]} is quantised already", "start from an f32, f16 or bf16 file")
    types, notes = storage_types(shapes, outtype, layers, shared_values=shares_values(architecture, layers, *heads))
    for note in notes:
        say(note)

    def loader(tensor: Any) -> Callable[[int, int], NDArray[np.float32]]:
        return lambda start, stop: gguf.quants.dequantize(tensor.data[start:stop], tensor.tensor_type)

    planned = [Planned(t.name, shapes[t.name], types[t.name], loader(t), str(source)) for t in reader.tensors]

    def describe(writer: GGUFWriter) -> None:
        _copy_fields(reader, writer)
        writer.add_file_type(file_type(outtype))

    return write_gguf(out, architecture, describe, planned, threads=threads, on_tensor=on_tensor)


def _copy_fields(reader: GGUFReader, writer: GGUFWriter) -> None:
    """Every key of one file into another, but for those that the writer sets itself and the file type."""
    import gguf

    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name in {"general.architecture", "general.file_type"}:
            continue
        inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=inner)


@guarded
def main(argv: list[str] | None = None) -> int:
    """Exit 0 when the file is written, else the error's own code."""
    from finetune.progress import counting

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="GGUF in f32, f16 or bf16")
    parser.add_argument("--type", dest="outtype", required=True, metavar="TYPE", help=", ".join(get_args(OutType)))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args(argv)
    outtype = as_outtype(args.outtype)
    with counting(None, "tensors") as on_tensor:
        requantise(
            args.source,
            args.out,
            outtype,
            threads=args.threads,
            say=lambda line: print(line, file=sys.stderr),
            on_tensor=on_tensor,
        )
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
