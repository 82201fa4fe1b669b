"""Convert a Hugging Face Qwen2, Qwen2.5, Qwen3 or Llama folder into one GGUF file, without torch:

    python -m finetune.convert_gguf finetune_output/merged --out nanda-annotator.gguf --outtype f16

Needs ``config.json``, ``model.safetensors`` (or shards), ``tokenizer.json``; takes ``tokenizer_config.json``,
``generation_config.json`` and ``chat_template.jinja`` into account. Tensors are read and written in slices, so memory
stays at some tens of megabytes whatever the model's size. The same folder gives the same bytes. Export weights that were
trained in float32 as f16: bf16 rounds them and flips near-ties.

    python finetune/convert_gguf.py --size 1.7B
    python finetune/convert_gguf.py --base Qwen/Qwen3-1.7B --sft RUN --grpo RUN --output FOLDER --types q4_K_M,q8_0

merge base, SFT adapter and GRPO adapter of /expand's model in this order and write one GGUF a type
(qmd-query-expansion-1.7B-q4_k_m.gguf). ``--size`` takes what finetune/configs/qmd-sft.yaml and qmd-grpo.yaml made; base and
adapters may also be names on the Hugging Face hub. ``--dry-run`` says what would be read and written.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

if __name__ == "__main__":  # run as a file, Python looks for modules beside it, not in the checkout
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from finetune.gguf_arch import (
    EMBEDDING,
    HEAD,
    ROPE_FACTORS,
    add_shape,
    architecture_of,
    heads_to_permute,
    is_tied,
    permuted,
    rope_factors,
    tensor_names,
)
from finetune.gguf_file import Planned, write_gguf
from finetune.gguf_vocab import Vocabulary, read_vocabulary
from finetune.hf_checkpoint import StoredTensor, read_json, read_tensors
from finetune.progress import counting
from finetune.quantise import OutType, as_outtype, file_type, shares_values, storage_types
from harness.arguments import Parser, guarded
from harness.errors import InputError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from gguf import GGUFWriter
    from numpy.typing import NDArray


def _add_vocabulary(writer: GGUFWriter, vocabulary: Vocabulary) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(list(vocabulary.tokens))
    writer.add_token_types(list(vocabulary.types))
    writer.add_token_merges(list(vocabulary.merges))
    add_id = {
        "bos": writer.add_bos_token_id,
        "eos": writer.add_eos_token_id,
        "pad": writer.add_pad_token_id,
        "unk": writer.add_unk_token_id,
    }
    for kind, number in vocabulary.special.items():
        add_id[kind](number)
    writer.add_add_bos_token(vocabulary.add_bos)
    if vocabulary.chat_template is not None:
        writer.add_chat_template(vocabulary.chat_template)


def _add_metadata(writer: GGUFWriter, metadata: Mapping[str, str]) -> None:
    for key, value in sorted(metadata.items()):
        writer.add_string(key if key.startswith(("general.", "marginalia.")) else f"marginalia.{key}", value)


def _select(stored: Mapping[str, StoredTensor], names: Mapping[str, str], where: Path) -> list[StoredTensor]:
    """The tensors in the order of the file. Missing and unknown ones are errors: they would change what is computed."""
    import numpy as np

    if missing := [name for name in names if name not in stored]:
        raise InputError(f"{where}: tensor {missing[0]} is missing", "write the whole model again")
    spare = [name for name in stored if name not in names]
    if HEAD in spare:  # tied, yet stored: harmless only as long as both are the same
        if not np.array_equal(stored[HEAD].load(), stored[EMBEDDING].load()):
            remedy = "tie the weights again or set tie_word_embeddings to false"
            raise InputError(f"{where}: {HEAD} has drifted from the embeddings it is tied to", remedy)
        spare.remove(HEAD)
    if spare:
        raise InputError(f"{where}: unknown tensor {spare[0]}", "merge adapters into the model before converting")
    return [stored[name] for name in names]


def _loader(tensor: StoredTensor, heads: int) -> Callable[[int, int], NDArray[np.float32]]:
    """Rows of a tensor, Llama's queries and keys in llama.cpp's order."""
    return (lambda start, stop: permuted(tensor.load(), heads)[start:stop]) if heads else tensor.load


def _plan(
    hf_folder: Path, config: Mapping[str, Any], architecture: str, outtype: OutType, say: Callable[[str], None]
) -> list[Planned]:
    """Every tensor of the file with its type."""
    where = hf_folder / "config.json"
    layers, heads = int(config["num_hidden_layers"]), int(config["num_attention_heads"])
    kv_heads = int(config.get("num_key_value_heads") or heads)
    names = tensor_names(architecture, layers, tied=is_tied(config))
    stored = _select(read_tensors(hf_folder), names, hf_folder)
    shapes = {names[tensor.name]: tensor.shape for tensor in stored}
    shared = shares_values(architecture, layers, heads, kv_heads)
    types, notes = storage_types(shapes, outtype, layers, shared_values=shared)
    for note in notes:
        say(note)
    planned = []
    if (factors := rope_factors(config, where)) is not None:
        planned.append(Planned(ROPE_FACTORS, factors.shape, "F32", lambda start, stop: factors[start:stop], str(where)))
    for tensor in stored:
        name = names[tensor.name]
        load = _loader(tensor, heads_to_permute(architecture, tensor.name, config))
        planned.append(Planned(name, tensor.shape, types[name], load, str(tensor.path)))
    return planned


def convert(
    hf_folder: Path,
    out: Path,
    outtype: OutType = "f16",
    *,
    metadata: Mapping[str, str] | None = None,
    threads: int = 1,
    say: Callable[[str], None] = lambda line: None,
    on_tensor: Callable[[], None] = lambda: None,
) -> Path:
    """Write ``hf_folder`` as the GGUF file ``out`` (a temporary file beside it, then renamed) and return ``out``.

    ``metadata`` is kept as strings: ``general.*`` keys as they are, all others (lineage hashes) under ``marginalia.``.
    ``say`` is told where a tensor could not have the type asked for. Raises InputError, and leaves an older ``out`` as it
    was, where the result would compute something else or cannot be written.
    """
    import gguf

    where = hf_folder / "config.json"
    config = read_json(where)
    architecture = architecture_of(config, where)
    try:
        planned = _plan(hf_folder, config, architecture, outtype, say)
        vocabulary = read_vocabulary(hf_folder, config)
        weights = sum(tensor.count for tensor in planned)

        def describe(writer: GGUFWriter) -> None:
            writer.add_type("model")
            writer.add_size_label(gguf.size_label(weights, 0, 0, 0))
            writer.add_file_type(file_type(outtype))
            writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
            _add_metadata(writer, {"general.name": hf_folder.resolve().name, **(metadata or {})})
            add_shape(writer, config, where)
            _add_vocabulary(writer, vocabulary)

        return write_gguf(out, architecture, describe, planned, threads=threads, on_tensor=on_tensor)
    except KeyError as error:
        raise InputError(f"{where}: {error} is missing", "write the folder again with save_pretrained") from None


@guarded
def main(argv: list[str] | None = None) -> int:
    """Exit 0 when every file is written, else the error's own code."""
    args = parser().parse_args(argv)
    if args.folder is None:
        return write_release(args)
    if args.size or args.base or args.output or args.types or args.dry_run:
        raise UsageError("a folder is converted as it is", "give either a folder with --out, or --size or --base")
    if args.out is None:
        raise UsageError("--out is missing", "name the GGUF file")
    outtype = as_outtype(args.outtype)
    with counting(None, "tensors") as on_tensor:
        out = convert(args.folder, args.out, outtype, threads=args.threads, say=_say, on_tensor=on_tensor)
    _say(f"{out}: {out.stat().st_size / 1e6:.1f} MB")
    return 0


def parser() -> Parser:
    """The command line."""
    top = Parser(prog="python finetune/convert_gguf.py", description=__doc__)
    top.add_argument("folder", type=Path, nargs="?", help="Hugging Face model folder")
    top.add_argument("--out", type=Path, metavar="FILE", help="the GGUF file of a folder")
    top.add_argument("--outtype", default="f16", metavar="TYPE", help=", ".join(get_args(OutType)))
    top.add_argument("--threads", type=int, default=os.cpu_count() or 1, metavar="N")
    many = top.add_argument_group("the files of /expand's model")
    many.add_argument("--size", choices=("1.7B", "4B"), help="base, adapters and output of this size")
    many.add_argument("--base", metavar="REF", help="base in 16 or 32 bits: a folder, or a name on the hub")
    many.add_argument("--sft", metavar="REF", help="run or adapter that is merged first")
    many.add_argument("--grpo", metavar="REF", help="run or adapter that is merged second")
    many.add_argument("--output", metavar="FOLDER", help="where the files go")
    many.add_argument("--types", metavar="A,B", help="what to write (default: f16,q4_K_M,q5_K_M,q8_0)")
    many.add_argument("--offline", action="store_true", help="nothing is fetched")
    many.add_argument("--dry-run", action="store_true", help="say what would be read and written, and stop")
    return top


def write_release(args: argparse.Namespace) -> int:
    """``--size``, or ``--base`` with what goes on it: one GGUF a type. Raises UsageError, InputError, Offline."""
    from finetune import gguf_release as made
    from finetune.sft.base import fetch, find, offline

    if not (args.size or args.base):
        raise UsageError("nothing to convert", "give a folder with --out, or --size, or --base and --output")
    usual = made.PRESETS[args.size] if args.size else made.Parts("")
    given = {name: value for name in ("base", "sft", "grpo", "output") if (value := getattr(args, name))}
    parts = replace(usual, **given)
    if not parts.output:
        raise UsageError("--output is missing", "name the folder that the files go to")
    types = [as_outtype(name.strip()) for name in args.types.split(",")] if args.types else list(made.TYPES)
    out, is_offline = Path(parts.output), offline(args.offline)
    names = [made.file_name(parts.size, kind) for kind in types]
    if args.dry_run:
        print(json.dumps({**asdict(parts), "types": types, "files": [str(out / name) for name in names]}, indent=1))
        return 0
    base = fetch(find(parts.base), is_offline=is_offline).folder
    assert base is not None  # what was fetched lies somewhere
    adapters = [made.adapter_folder(name, is_offline=is_offline) for name in parts.adapters]
    with counting(None, "tensors") as on_tensor:
        files = made.release(
            base, adapters, out, size=parts.size, types=types, threads=args.threads, say=_say, on_tensor=on_tensor
        )
    for file in files:
        _say(f"{file}: {file.stat().st_size / 1e6:.1f} MB")
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr)


if __name__ == "__main__":
    raise SystemExit(main())
