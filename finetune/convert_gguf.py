"""Convert a Hugging Face Qwen2 or Qwen3 folder into one GGUF file, with numpy and the ``gguf`` package, without torch.

    python -m finetune.convert_gguf finetune_output/base/model --out base.gguf --outtype f16

Needs ``config.json``, ``model.safetensors`` (or shards), ``tokenizer.json``; takes ``tokenizer_config.json``,
``generation_config.json`` and ``chat_template.jinja`` into account. The same folder gives the same bytes. Export
weights that were trained in float32 as f16: bf16 rounds them and flips near-ties.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from finetune.gguf_vocab import Vocabulary, read_vocabulary
from finetune.hf_checkpoint import StoredTensor, read_json, read_tensors
from harness.errors import InputError, MarginaliaError

if TYPE_CHECKING:
    from gguf import GGMLQuantizationType, GGUFWriter

OutType = Literal["f32", "f16", "bf16", "q8_0", "q4_0", "q5_0"]

ARCHITECTURES = {"Qwen2ForCausalLM": "qwen2", "Qwen3ForCausalLM": "qwen3"}
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
OUTER = {EMBEDDING: "token_embd.weight", "model.norm.weight": "output_norm.weight", HEAD: "output.weight"}
MATRICES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
NORMS = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
QUERY_KEY_NORMS = {"self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"}


def tensor_names(architecture: str, layers: int, *, tied: bool) -> dict[str, str]:
    """Hugging Face name → GGUF name of every tensor that a model of this shape has, in the order of the file."""
    inside = {f"{name}.weight": f"{short}.weight" for name, short in {**NORMS, **MATRICES}.items()}
    if architecture == "qwen2":
        inside |= {f"self_attn.{x}_proj.bias": f"attn_{x}.bias" for x in "qkv"}
    else:
        inside |= {f"{name}.weight": f"{short}.weight" for name, short in QUERY_KEY_NORMS.items()}
    names = {name: short for name, short in OUTER.items() if not (tied and name == HEAD)}
    for layer in range(layers):
        names |= {f"model.layers.{layer}.{name}": f"blk.{layer}.{short}" for name, short in inside.items()}
    return names


def _check_config(config: Mapping[str, Any], where: Path) -> str:
    """The GGUF architecture; InputError for anything that llama.cpp would compute differently."""
    names = config.get("architectures") or ["none"]
    if names[0] not in ARCHITECTURES:
        raise InputError(f"{where}: architecture {names[0]} cannot be converted", f"known: {', '.join(ARCHITECTURES)}")
    architecture = ARCHITECTURES[names[0]]
    odd = {
        "hidden_act": config.get("hidden_act", "silu") != "silu",
        "use_sliding_window": bool(config.get("use_sliding_window")),
        "attention_bias": bool(config.get("attention_bias")),  # Qwen2's own biases are not an option of its config
        "quantization_config": bool(config.get("quantization_config")),
    }
    if strange := [key for key, wrong in odd.items() if wrong]:
        raise InputError(f"{where}: {strange[0]} = {config[strange[0]]!r} cannot be converted", "use a plain model")
    return architecture


def _add_rope(writer: GGUFWriter, config: Mapping[str, Any], where: Path) -> None:
    """RoPE base and scaling; transformers 5 keeps both in ``rope_parameters``, older ones in two keys."""
    import gguf

    rope = config.get("rope_parameters") or {
        "rope_theta": config.get("rope_theta", 10000.0),
        **(config.get("rope_scaling") or {}),
    }
    writer.add_rope_freq_base(float(rope["rope_theta"]))
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return
    if kind not in {"linear", "yarn"}:
        raise InputError(f"{where}: RoPE scaling {kind!r} cannot be converted", "known: default, linear, yarn")
    writer.add_rope_scaling_type(gguf.RopeScalingType(kind))
    writer.add_rope_scaling_factor(float(rope["factor"]))
    if original := rope.get("original_max_position_embeddings"):
        writer.add_rope_scaling_orig_ctx_len(int(original))


def _add_shape(writer: GGUFWriter, config: Mapping[str, Any], where: Path) -> None:
    heads = int(config["num_attention_heads"])
    writer.add_context_length(int(config["max_position_embeddings"]))
    writer.add_embedding_length(int(config["hidden_size"]))
    writer.add_block_count(int(config["num_hidden_layers"]))
    writer.add_feed_forward_length(int(config["intermediate_size"]))
    writer.add_head_count(heads)
    writer.add_head_count_kv(int(config.get("num_key_value_heads") or heads))
    writer.add_layer_norm_rms_eps(float(config["rms_norm_eps"]))
    if head_dim := config.get("head_dim"):
        writer.add_key_length(int(head_dim))
        writer.add_value_length(int(head_dim))
    _add_rope(writer, config, where)


def _add_vocabulary(writer: GGUFWriter, vocabulary: Vocabulary) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(list(vocabulary.tokens))
    writer.add_token_types(list(vocabulary.types))
    writer.add_token_merges(list(vocabulary.merges))
    add_id = {"bos": writer.add_bos_token_id, "eos": writer.add_eos_token_id, "pad": writer.add_pad_token_id}
    for kind, number in vocabulary.special.items():
        add_id[kind](number)
    writer.add_add_bos_token(False)
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


def _storage(tensor: StoredTensor, outtype: OutType) -> GGMLQuantizationType:
    """How a tensor is stored: vectors as F32; below 8 bits the embeddings keep 8; rows that do not divide, F16."""
    import gguf

    if len(tensor.shape) == 1:
        return gguf.GGMLQuantizationType.F32
    wanted = "q8_0" if outtype in {"q4_0", "q5_0"} and tensor.name in {EMBEDDING, HEAD} else outtype
    storage = gguf.GGMLQuantizationType[wanted.upper()]
    block, _ = gguf.GGML_QUANT_SIZES[storage]
    return storage if tensor.shape[-1] % block == 0 else gguf.GGMLQuantizationType.F16


def _write_tensors(writer: GGUFWriter, tensors: list[StoredTensor], names: Mapping[str, str], outtype: OutType) -> None:
    """Header, then the tensors one at a time: memory holds one of them, not the model."""
    import gguf
    import numpy as np

    storages = [_storage(tensor, outtype) for tensor in tensors]
    for tensor, storage in zip(tensors, storages, strict=True):
        size = gguf.quants.quant_shape_to_byte_shape(tensor.shape, storage)
        length = int(np.prod(size, dtype=np.int64))
        writer.add_tensor_info(names[tensor.name], tensor.shape, np.dtype(np.float32), length, raw_dtype=storage)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor, storage in zip(tensors, storages, strict=True):
        values = tensor.load()
        with np.errstate(over="ignore"):  # what overflows F16 is found right below
            stored = gguf.quants.quantize(values, storage)
        if not np.isfinite(stored if stored.dtype.kind == "f" else values).all():
            remedy = "export f32 or bf16, or look at the training"
            raise InputError(f"{tensor.path}: {tensor.name} holds values that {storage.name} cannot", remedy)
        writer.write_tensor_data(np.ascontiguousarray(stored))


def convert(hf_folder: Path, out: Path, outtype: OutType = "f16", *, metadata: Mapping[str, str] | None = None) -> Path:
    """Write ``hf_folder`` as the GGUF file ``out`` (a temporary file beside it, then renamed) and return ``out``.

    ``metadata`` is kept as strings: ``general.*`` keys as they are, all others (lineage hashes) under ``marginalia.``.
    Raises InputError, and leaves an older ``out`` as it was, where the result would compute something else.
    """
    import gguf

    where = hf_folder / "config.json"
    config = read_json(where)
    architecture = _check_config(config, where)
    with tempfile.NamedTemporaryFile(dir=out.parent, prefix=f".{out.name}.", suffix=".part", delete=False) as handle:
        partial = Path(handle.name)
    writer = gguf.GGUFWriter(partial, architecture)
    try:
        tied = bool(config.get("tie_word_embeddings"))
        names = tensor_names(architecture, int(config["num_hidden_layers"]), tied=tied)
        tensors = _select(read_tensors(hf_folder), names, hf_folder)
        writer.add_file_type(_file_type(outtype))
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        _add_metadata(writer, {"general.name": hf_folder.resolve().name, **(metadata or {})})
        _add_shape(writer, config, where)
        _add_vocabulary(writer, read_vocabulary(hf_folder, config))
        _write_tensors(writer, tensors, names, outtype)
        writer.close()
        with partial.open("rb") as handle:
            os.fsync(handle.fileno())
        partial.chmod(0o644)
        partial.replace(out)
    except KeyError as error:
        raise InputError(f"{where}: {error} is missing", "write the folder again with save_pretrained") from None
    finally:
        writer.close()
        partial.unlink(missing_ok=True)
    return out


def _file_type(outtype: OutType) -> int:
    import gguf

    return int(gguf.LlamaFileType["ALL_F32" if outtype == "f32" else f"MOSTLY_{outtype.upper()}"])


def main(argv: list[str] | None = None) -> int:
    """Exit 0 when the file is written, else the error's own code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="Hugging Face model folder")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--outtype", choices=get_args(OutType), default="f16")
    args = parser.parse_args(argv)
    try:
        out = convert(args.folder, args.out, args.outtype)
    except MarginaliaError as error:
        print(error, file=sys.stderr)
        return error.exit
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
