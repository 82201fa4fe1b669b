# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "gguf>=0.19,<1",
#     "huggingface-hub>=1",
#     "numpy>=2",
#     "pyyaml>=6",
#     "rich>=15",
# ]
# ///
# Made by finetune/jobs/build.py out of finetune/jobs/source/quantize.py: change that, then run build.py again.
# ruff: noqa
# fmt: off
# mypy: ignore-errors
"""The GGUFs of /expand's model in the cloud: base, SFT and GRPO adapters merged in order, f16, q4_K_M, q5_K_M and q8_0.

    hf jobs uv run --flavor cpu-upgrade --secrets HF_TOKEN --timeout 2h finetune/jobs/quantize.py --size 1.7B

The converter and the quantiser are this project's own (numpy, the bytes of llama.cpp's), so nothing is compiled and no GPU
is needed. The files go to a private repository of the hub.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys

MODULES = {
    'finetune.convert_gguf': r'''"""Convert a Hugging Face Qwen2, Qwen2.5, Qwen3 or Llama folder into one GGUF file, without torch:

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
''',
    'finetune.dataset.abstracts': r'''"""The pre-training corpus: abstracts to a byte-level BPE tokenizer and one long array of token ids.

    python -m finetune.dataset.abstracts ../shared/data/papers/arxiv_abstracts.jsonl.gz --out finetune_output/base \
        --held-out ../shared/data/gold/moves_dev.jsonl

Writes ``tokenizer/`` (Hugging Face format), ``train.npy`` and ``valid.npy`` (uint16, documents end with the end token)
and ``corpus.json`` (counts and hashes).
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import random
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from finetune.dataset.leaks import LeakCheck

END = "<|endoftext|>"
# ChatML's marks belong to every Qwen tokenizer, so that the same base can be tuned for chat contracts.
SPECIAL = [END, "<|im_start|>", "<|im_end|>"]
# Qwen2's pre-tokenizer: llama.cpp knows it by the name "qwen2", so that a GGUF of this tokenizer splits alike.
SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a JSONL file, gzip or plain."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as handle:
        for line in handle:
            if line.strip():
                yield json.loads(line)


def document(row: dict[str, Any]) -> str:
    """Title and abstract with white space folded: hard line breaks of a listing are no part of the language."""
    return " ".join(str(row.get("title") or "").split()) + "\n\n" + " ".join(str(row["abstract"]).split())


def train_tokenizer(texts: list[str], size: int) -> Any:
    """A byte-level BPE tokenizer of ``size`` tokens, specials included."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--held-out", type=Path, action="append", default=[], help="evaluation sets that must not leak")
    parser.add_argument("--vocab", type=int, default=8192, help="tokens of the tokenizer, at most 65536 (uint16)")
    parser.add_argument("--valid", type=int, default=300, help="documents kept for validation loss")
    parser.add_argument("--limit", type=int, help="use only so many documents (smoke runs)")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)

    import numpy as np
    from transformers import PreTrainedTokenizerFast

    if not 300 <= args.vocab <= 65536:
        parser.error(f"--vocab {args.vocab}: not from 300 to 65536")
    check = LeakCheck(row for path in args.held_out for row in read_jsonl(path))
    dropped: Counter[str] = Counter()
    texts: list[str] = []
    for row in read_jsonl(args.corpus):
        if args.limit and len(texts) >= args.limit:
            break
        if reason := check.reason(row):
            dropped[reason] += 1
        else:
            texts.append(document(row))
    if len(texts) <= args.valid:
        parser.error(f"{args.corpus}: {len(texts)} documents leave none to train on beside --valid {args.valid}")
    random.Random(args.seed).shuffle(texts)
    tokenizer = train_tokenizer(texts, args.vocab)
    args.out.mkdir(parents=True, exist_ok=True)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=END).save_pretrained(
        args.out / "tokenizer"
    )
    end = tokenizer.token_to_id(END)
    counts = {}
    for name, part in (("valid", texts[: args.valid]), ("train", texts[args.valid :])):
        ids = [i for encoding in tokenizer.encode_batch(part) for i in (*encoding.ids, end)]
        np.save(args.out / f"{name}.npy", np.array(ids, dtype=np.uint16))
        counts[name] = {"documents": len(part), "tokens": len(ids)}
    digest = hashlib.sha256(args.corpus.read_bytes()).hexdigest()
    card = {"corpus_sha256": digest, "seed": args.seed, "vocab": args.vocab, "leaks": dict(dropped), **counts}
    (args.out / "corpus.json").write_text(json.dumps(card, indent=1) + "\n")
    print(json.dumps(card), file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
''',
    'finetune.dataset.leaks': r'''"""Find papers of a training corpus that also stand in an evaluation set.

A paper leaks when it has the same identifier (arXiv versions are one paper), the same title, or an abstract that shares
most of its word 8-grams with the evaluation abstracts (the criterion of GPT-3, Brown et al. 2020, appendix C, with a
smaller n because abstracts are short), or that holds most of those of one of them.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

NGRAM = 8
SHARE = 0.5
LEAST = 10
"""A text holds an evaluation abstract when it shares at least so many n-grams with it: a set phrase has fewer."""
_PREFIX = re.compile(r"^(?:arxiv:|https?://(?:www\.|export\.)?arxiv\.org/(?:abs|pdf)/)")
_SUFFIX = re.compile(r"(?:v\d+)?(?:\.pdf)?$")
_WORD = re.compile(r"[a-z0-9]+")


def words(text: str) -> list[str]:
    """The lower-case words of a text; markup, punctuation and line breaks do not count."""
    return _WORD.findall(text.lower())


def ngrams(text: str, n: int = NGRAM) -> set[tuple[str, ...]]:
    """All word n-grams of a text; a text shorter than n words is one gram."""
    tokens = words(text)
    if len(tokens) <= n:
        return {tuple(tokens)} if tokens else set()
    return {tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)}


def paper_key(identifier: str) -> str:
    """An identifier without the address and the version that arXiv ids come with, so that all versions are one paper."""
    return _SUFFIX.sub("", _PREFIX.sub("", identifier.strip().lower()), count=1)


class LeakCheck:
    """Knows the papers of the evaluation sets and says why a training paper must go.

    Rows need ``abstract``; ``arxiv_id`` (or ``id``) and ``title`` are used where present.
    """

    def __init__(self, evaluation: Iterable[Mapping[str, Any]]) -> None:
        self.keys: set[str] = set()
        self.titles: set[str] = set()
        self.owners: dict[tuple[str, ...], list[int]] = defaultdict(list)
        """The evaluation abstracts, by number, that have an n-gram."""
        self.sizes: list[int] = []
        """How many n-grams each of them has."""
        for row in evaluation:
            if key := paper_key(str(row.get("arxiv_id") or row.get("id") or "")):
                self.keys.add(key)
            if title := " ".join(words(str(row.get("title") or ""))):
                self.titles.add(title)
            grams = ngrams(str(row.get("abstract") or ""))
            for gram in grams:
                self.owners[gram].append(len(self.sizes))
            self.sizes.append(len(grams))

    def reason(self, row: Mapping[str, Any]) -> str | None:
        """Why this training row leaks (``id``, ``title`` or ``text``), or None when it does not."""
        if paper_key(str(row.get("arxiv_id") or row.get("id") or "")) in self.keys:
            return "id"
        if " ".join(words(str(row.get("title") or ""))) in self.titles:
            return "title"
        grams = ngrams(str(row.get("abstract") or ""))
        shared = [gram for gram in grams if gram in self.owners]
        if shared and (len(shared) / len(grams) >= SHARE or self._holds_one(shared)):
            return "text"
        return None

    def _holds_one(self, shared: Iterable[tuple[str, ...]]) -> bool:
        """Whether these n-grams are most of an evaluation abstract, which may stand in a longer text."""
        counts = Counter(owner for gram in shared for owner in self.owners[gram])
        return any(count >= LEAST and count / self.sizes[owner] >= SHARE for owner, count in counts.items())
''',
    'finetune.gguf_arch': r'''"""What a Hugging Face configuration means in GGUF: architecture, tensor names, shape and RoPE keys, Llama's row order.

Anything that llama.cpp would compute differently from transformers is refused rather than left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from gguf import GGUFWriter
    from numpy.typing import NDArray

ARCHITECTURES = {"Qwen2ForCausalLM": "qwen2", "Qwen3ForCausalLM": "qwen3", "LlamaForCausalLM": "llama"}
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
ROPE_FACTORS = "rope_freqs.weight"
"""GGUF's name of the vector that Llama 3's RoPE scaling becomes."""
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
    elif architecture == "qwen3":
        inside |= {f"{name}.weight": f"{short}.weight" for name, short in QUERY_KEY_NORMS.items()}
    names = {name: short for name, short in OUTER.items() if not (tied and name == HEAD)}
    for layer in range(layers):
        names |= {f"model.layers.{layer}.{name}": f"blk.{layer}.{short}" for name, short in inside.items()}
    return names


def architecture_of(config: Mapping[str, Any], where: Path) -> str:
    """The GGUF architecture; InputError for anything that llama.cpp would compute differently."""
    names = config.get("architectures") or ["none"]
    if names[0] not in ARCHITECTURES:
        raise InputError(f"{where}: architecture {names[0]} cannot be converted", f"known: {', '.join(ARCHITECTURES)}")
    odd = {
        "hidden_act": config.get("hidden_act", "silu") != "silu",
        "use_sliding_window": bool(config.get("use_sliding_window")),
        "attention_bias": bool(config.get("attention_bias")),  # Qwen2's own biases are not an option of its config
        "mlp_bias": bool(config.get("mlp_bias")),
        "quantization_config": bool(config.get("quantization_config")),
    }
    if strange := [key for key, wrong in odd.items() if wrong]:
        raise InputError(f"{where}: {strange[0]} = {config[strange[0]]!r} cannot be converted", "use a plain model")
    return ARCHITECTURES[names[0]]


def is_tied(config: Mapping[str, Any]) -> bool:
    """Whether the output head is the embedding matrix."""
    return bool(config.get("tie_word_embeddings"))


def head_width(config: Mapping[str, Any]) -> int:
    """Width of one attention head."""
    return int(config.get("head_dim") or int(config["hidden_size"]) // int(config["num_attention_heads"]))


def _rope(config: Mapping[str, Any], where: Path) -> tuple[str, dict[str, Any]]:
    """Kind and values of RoPE; transformers 5 keeps all in ``rope_parameters``, older ones in two keys."""
    rope = config.get("rope_parameters") or {
        "rope_theta": config.get("rope_theta", 10000.0),
        **(config.get("rope_scaling") or {}),
    }
    kind = rope.get("rope_type", rope.get("type", "default"))
    known = ("default", "linear", "yarn", "llama3")
    if kind not in known:
        raise InputError(f"{where}: RoPE scaling {kind!r} cannot be converted", f"known: {', '.join(known)}")
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise InputError(f"{where}: partial_rotary_factor cannot be converted", "use a model that rotates whole heads")
    return kind, rope


def _add_rope(writer: GGUFWriter, config: Mapping[str, Any], where: Path) -> None:
    import gguf

    kind, rope = _rope(config, where)
    writer.add_rope_freq_base(float(rope["rope_theta"]))
    if kind not in {"linear", "yarn"}:  # llama3's scaling is a tensor of its own
        return
    writer.add_rope_scaling_type(gguf.RopeScalingType(kind))
    writer.add_rope_scaling_factor(float(rope["factor"]))
    if kind == "linear":
        return
    writer.add_rope_scaling_orig_ctx_len(int(rope["original_max_position_embeddings"]))
    for key, add in (
        ("attention_factor", writer.add_rope_scaling_yarn_attn_factor),
        ("beta_fast", writer.add_rope_scaling_yarn_beta_fast),
        ("beta_slow", writer.add_rope_scaling_yarn_beta_slow),
    ):
        if rope.get(key) is not None:
            add(float(rope[key]))


def rope_factors(config: Mapping[str, Any], where: Path) -> NDArray[np.float32] | None:
    """What llama.cpp divides each RoPE frequency by, for Llama 3's scaling; None for every other.

    Long wavelengths are divided by ``factor``, short ones kept, those between interpolated (Llama 3.1; the formula is that
    of transformers' ``_compute_llama3_parameters``). Float32 throughout, and a quotient of a number and a tensor is the
    number times the reciprocal, as torch computes it: the bits are those of llama.cpp's converter.
    """
    import numpy as np

    kind, rope = _rope(config, where)
    if kind != "llama3":
        return None
    f32 = np.float32
    width = head_width(config)
    factor, low, high, context = (
        float(rope[key]) for key in ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
    )
    frequencies = f32(1) / np.power(f32(rope["rope_theta"]), np.arange(0, width, 2, dtype=f32) / f32(width))
    wavelengths = (f32(1) / frequencies) * f32(2 * math.pi)
    smooth = ((f32(1) / wavelengths) * f32(context) - f32(low)) / f32(high - low)
    between = f32(1) / ((f32(1) - smooth) / f32(factor) + smooth)
    long = np.where(wavelengths > f32(context / low), f32(factor), between)
    return np.where(wavelengths < f32(context / high), f32(1), long).astype(f32)


def add_shape(writer: GGUFWriter, config: Mapping[str, Any], where: Path) -> None:
    """Every key of the model's shape that llama.cpp reads. KeyError names one that the configuration lacks."""
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
    if writer.arch == "llama":
        writer.add_vocab_size(int(config["vocab_size"]))
        writer.add_rope_dimension_count(head_width(config))
    _add_rope(writer, config, where)


def heads_to_permute(architecture: str, name: str, config: Mapping[str, Any]) -> int:
    """How many heads a tensor's rows must be reordered in: Llama's queries and keys; 0 for every other tensor.

    transformers rotates the halves of a head against each other, llama.cpp's Llama neighbouring rows.
    """
    heads = int(config["num_attention_heads"])
    if architecture != "llama":
        return 0
    if name.endswith("self_attn.q_proj.weight"):
        return heads
    return int(config.get("num_key_value_heads") or heads) if name.endswith("self_attn.k_proj.weight") else 0


def permuted(weights: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Rows of each head from halves to neighbours: 0, n/2, 1, n/2 + 1 …"""
    rows, columns = weights.shape
    return weights.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)
''',
    'finetune.gguf_file': r'''"""Write a GGUF file tensor by tensor, a slice at a time: memory holds some slices, not a tensor and not the model.

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
''',
    'finetune.gguf_release': r'''"""The GGUFs of a release of /expand's model: base, SFT adapter and GRPO adapter merged in this order, then quantised.

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
''',
    'finetune.gguf_vocab': r'''"""The vocabulary of a Hugging Face folder as a GGUF file wants it: tokens, types, merges, special ids, chat template.

llama.cpp splits text by a pre-tokenizer that it knows by name. Which name a ``tokenizer.json`` may bear is decided by a
hash over the steps that shape its tokens; an unknown hash is refused, for under a wrong name llama.cpp would give other
tokens without a word. One difference cannot be expressed in a GGUF: the tokenizer's NFC normalisation, which llama.cpp
leaves to whoever sends the text.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from finetune.dataset.abstracts import SPLIT
from finetune.hf_checkpoint import read_json
from harness.errors import InputError


class TokenType(IntEnum):
    """llama.cpp's token types, the four in use here."""

    NORMAL = 1
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5


@dataclass(frozen=True)
class Vocabulary:
    """All that the tokenizer part of a GGUF holds."""

    tokens: tuple[str, ...]
    types: tuple[TokenType, ...]
    merges: tuple[str, ...]
    """Each pair as ``left right``."""
    special: Mapping[str, int]
    """``bos``, ``eos``, ``pad``, ``unk`` → id; those that are not set are absent."""
    chat_template: str | None
    pre: str
    """llama.cpp's name of the pre-tokenizer."""
    add_bos: bool
    """Whether every text begins with the ``bos`` token."""


ALONE = {"Sequence": {"id": "A", "type_id": 0}}
"""The one element of a template that puts nothing before or after a text."""
LLAMA3_SPLIT = SPLIT.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}


def _split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def _hash(steps: list[dict[str, Any]], *, ignore_merges: bool) -> str:
    text = json.dumps([steps, ignore_merges], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


PRE_TOKENIZERS = {
    _hash([_split(SPLIT), _BYTES], ignore_merges=False): "qwen2",  # Qwen2, Qwen2.5, Qwen3 and our own
    _hash([_split(LLAMA3_SPLIT), _BYTES], ignore_merges=True): "llama-bpe",  # Llama 3 to 3.3
    _hash([{"type": "Digits", "individual_digits": True}, {**_BYTES, "use_regex": True}], ignore_merges=False): "smollm",
}
"""Hash of the steps that split a text → llama.cpp's name."""
_NORMALIZERS = {"qwen2": {"NFC"}}
"""What may normalise a text beforehand."""
_IRRELEVANT = {"trim_offsets"}
"""Options of a step that change no token."""


def _steps(stage: Mapping[str, Any] | None, plural: str) -> list[Mapping[str, Any]]:
    """The steps of a stage that may be absent, one step, or a Sequence of them."""
    if not stage:
        return []
    return list(stage[plural]) if stage["type"] == "Sequence" else [stage]


def fingerprint(tokenizer: Mapping[str, Any]) -> str:
    """Hash over what splits a text into the pieces that BPE works on (see ``PRE_TOKENIZERS``)."""
    steps = _steps(tokenizer["pre_tokenizer"], "pretokenizers")
    kept = [{key: value for key, value in step.items() if key not in _IRRELEVANT} for step in steps]
    return _hash(kept, ignore_merges=bool(tokenizer["model"].get("ignore_merges")))


def _adds_bos(tokenizer: Mapping[str, Any]) -> bool | None:
    """Whether the post-processor puts one token before every text; None where it does anything else."""
    found = False
    for step in _steps(tokenizer["post_processor"], "processors"):
        if step["type"] == "ByteLevel" or step.get("single") == [ALONE]:
            continue
        first, *rest = step.get("single") or [{}]
        if found or "SpecialToken" not in first or rest != [ALONE]:
            return None
        found = True
    return found


def tokenizer_problems(tokenizer: Mapping[str, Any]) -> list[str]:
    """What in a ``tokenizer.json`` llama.cpp would do differently; empty when nothing."""
    problems = []
    model = tokenizer["model"]
    if model.get("type") != "BPE":
        return [f"model is {model.get('type')}, not byte-level BPE"]
    for option in ("byte_fallback", "continuing_subword_prefix", "end_of_word_suffix", "dropout"):
        if model.get(option):
            problems.append(f"model option {option} is set")
    mark = fingerprint(tokenizer)
    if (pre := PRE_TOKENIZERS.get(mark)) is None:
        known = ", ".join(f"{name} ({key[:12]})" for key, name in PRE_TOKENIZERS.items())
        problems.append(f"its pre-tokenizer ({mark[:12]}) is none of {known}")
    allowed = _NORMALIZERS.get(pre or "", set())
    normalizers = _steps(tokenizer["normalizer"], "normalizers")
    if strange := [step["type"] for step in normalizers if step["type"] not in allowed]:
        problems.append(f"normalizer {strange[0]} is not known to llama.cpp")
    if _adds_bos(tokenizer) is None:
        problems.append("post-processor does more than to put one token before a text")
    for token in tokenizer["added_tokens"]:
        if token["lstrip"] or token["rstrip"] or token["single_word"]:
            problems.append(f"added token {token['content']!r} strips blanks or stands for whole words only")
    return problems


def _special_ids(folder: Path, config: Mapping[str, Any], ids: Mapping[str, int]) -> dict[str, int]:
    """Special ids of config.json, else generation_config.json, else named in tokenizer_config.json.

    Of several end tokens the one that the tokenizer names counts, else the first; llama.cpp knows the other chat ends
    by their text.
    """
    generation = folder / "generation_config.json"
    sources = [config, read_json(generation) if generation.is_file() else {}]
    named = folder / "tokenizer_config.json"
    names = read_json(named) if named.is_file() else {}
    found = {}
    for kind in ("bos", "eos", "pad", "unk"):
        text = names.get(f"{kind}_token")
        text = text.get("content") if isinstance(text, dict) else text
        by_name = ids.get(str(text))
        values = [source.get(f"{kind}_token_id") for source in sources]
        value = next((v for v in (*values, by_name) if v is not None), None)
        if isinstance(value, list):
            value = by_name if by_name in value else value[0]
        if value is not None:
            found[kind] = int(value)
    if "eos" not in found:
        raise InputError(f"{folder}: no end token is named", "set eos_token_id in config.json")
    return found


def _chat_template(folder: Path) -> str | None:
    """``chat_template.jinja`` (transformers 5), else the template inside tokenizer_config.json."""
    jinja = folder / "chat_template.jinja"
    if jinja.is_file():
        return jinja.read_text(encoding="utf-8")
    config = folder / "tokenizer_config.json"
    template = read_json(config).get("chat_template") if config.is_file() else None
    if isinstance(template, list):
        template = next((item["template"] for item in template if item["name"] == "default"), None)
    return template if isinstance(template, str) else None


def read_vocabulary(folder: Path, config: Mapping[str, Any]) -> Vocabulary:
    """The vocabulary, padded with unused ``[PADn]`` tokens to ``vocab_size`` of the model's configuration.

    Raises InputError where llama.cpp would tokenise differently or the ids do not fit the embeddings.
    """
    path = folder / "tokenizer.json"
    tokenizer = read_json(path)
    try:
        if problems := tokenizer_problems(tokenizer):
            remedy = "only byte-level BPE that llama.cpp splits alike can be converted"
            raise InputError(f"{path}: tokenizer not recognised: {'; '.join(problems)}", remedy)
        added = {token["content"]: token for token in tokenizer["added_tokens"]}
        ids = {**tokenizer["model"]["vocab"], **{text: token["id"] for text, token in added.items()}}
        merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in tokenizer["model"]["merges"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not in the shape of a fast tokenizer ({error})", "write it again") from None
    size = int(config["vocab_size"])
    if (largest := max(ids.values())) >= size:
        remedy = "resize the model's embeddings to the tokenizer"
        raise InputError(f"{path}: token id {largest} does not fit vocab_size {size}", remedy)
    tokens = [f"[PAD{number}]" for number in range(size)]
    types = [TokenType.UNUSED] * size
    for text, number in ids.items():
        tokens[number] = text
        control = text in added and (added[text]["special"] or (text.startswith("<|") and text.endswith("|>")))
        kind = TokenType.CONTROL if control else TokenType.USER_DEFINED
        types[number] = kind if text in added else TokenType.NORMAL
    special = _special_ids(folder, config, ids)
    if wrong := [kind for kind, number in special.items() if not 0 <= number < size]:
        raise InputError(f"{folder / 'config.json'}: {wrong[0]}_token_id is outside the vocabulary", "correct it")
    return Vocabulary(
        tuple(tokens),
        tuple(types),
        tuple(merges),
        special,
        _chat_template(folder),
        PRE_TOKENIZERS[fingerprint(tokenizer)],
        bool(_adds_bos(tokenizer)),
    )
''',
    'finetune.hf_checkpoint': r'''"""Tensors of a Hugging Face model folder through numpy alone, one at a time, memory-mapped."""

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
''',
    'finetune.jobs.files': r'''FILES = {
}


def text_of(path):
    return FILES[path]
''',
    'finetune.jobs.source.cloud': r'''"""What the training scripts share: names on the hub, data from there, results to there."""

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
''',
    'finetune.lora': r'''"""A PEFT adapter as it lies on disk: which parts it has for which module, whether they fit a base, and merged tensors.

PEFT's own names are kept: ``lora_A``/``lora_B`` (Hu et al. 2021: W + α/r · B·A), ``trainable_tokens_delta`` (the rows
of trained tokens; they replace, in spite of the name), and whole tensors of ``modules_to_save``, of resized embeddings and
of trained biases. What is not known here is refused: it would be lost in the merge.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.gguf_arch import EMBEDDING, HEAD
from finetune.hf_checkpoint import StoredTensor, read_json, read_tensors
from harness.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

A, B, TOKENS, WEIGHT, BIAS = "lora_A.weight", "lora_B.weight", "trainable_tokens_delta", "weight", "bias"
_PREFIX = "base_model.model."
_PARTS = {
    A: A,
    B: B,
    "token_adapter.trainable_tokens_delta": TOKENS,
    "token_adapter.base_layer.weight": WEIGHT,
    "base_layer.weight": WEIGHT,
    "base_layer.bias": BIAS,
    "weight": WEIGHT,
    "bias": BIAS,
}
"""How a key of the file ends → which part of its module it is; longer endings are tried first."""
_TRAINING_ONLY = {
    "auto_mapping",
    "base_model_name_or_path",
    "bias",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
    "inference_mode",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_dropout",
    "lora_ga_config",
    "megatron_core",
    "modules_to_save",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "r",
    "revision",
    "target_modules",
    "task_type",
}
"""Settings that have done their work when the adapter is saved."""
_MERGED = {"alpha_pattern", "lora_alpha", "rank_pattern", "trainable_token_indices", "use_rslora"}
"""Settings that the merge takes into account."""
_PLAIN_STARTS = (True, False, None, "gaussian", "orthogonal", "eva")
"""Ways to initialise an adapter that leave the base's weights alone; PiSSA, CorDA, OLoRA and LoftQ change them."""


@dataclass
class Adapter:
    """An adapter on disk."""

    folder: Path
    config: Mapping[str, Any]
    modules: dict[str, dict[str, StoredTensor]]
    """Module, such as ``model.layers.0.self_attn.q_proj`` → part → tensor."""

    def parts(self, module: str) -> list[str]:
        """What the adapter has for a module."""
        return list(self.modules.get(module, {}))

    def load(self, module: str, part: str) -> NDArray[np.float32] | None:
        """A part's values, or None where the adapter has none."""
        tensor = self.modules.get(module, {}).get(part)
        return None if tensor is None else tensor.load()

    def drop(self, module: str) -> None:
        """Forget a module."""
        self.modules.pop(module, None)

    def tokens(self, module: str) -> list[int]:
        """Ids of the rows that ``trainable_tokens_delta`` of a module holds."""
        setting = self.config.get("trainable_token_indices") or []
        if isinstance(setting, Mapping):
            setting = next((ids for name, ids in setting.items() if module.split(".")[-1] == name.split(".")[-1]), [])
        return [int(number) for number in setting]

    def scale(self, module: str) -> float:
        """α/r of a module, or α/√r where the adapter was trained so (rsLoRA)."""
        alpha = _of_pattern(self.config.get("alpha_pattern") or {}, module, self.config["lora_alpha"])
        rank = self.modules[module][A].shape[0]
        return float(alpha) / (math.sqrt(rank) if self.config.get("use_rslora") else rank)

    def check(self, base: Mapping[str, StoredTensor], rows: int) -> None:
        """Every part fits the base, whose merged vocabulary has ``rows``. InputError names the first that does not."""
        for module, parts in self.modules.items():
            if (A in parts) != (B in parts):
                raise InputError(f"{self.folder}: {module} has half a LoRA", "save the adapter again")
            for part in parts:
                name = f"{module}.{BIAS if part == BIAS else WEIGHT}"
                if name not in base:
                    self._misfit(module, "is not in the base")
                shape = (rows, *base[name].shape[1:]) if name in {EMBEDDING, HEAD} else base[name].shape
                if (due := self._due(module, part, shape)) != parts[part].shape:
                    self._misfit(module, f"has {part} of shape {list(parts[part].shape)}, the base asks for {list(due)}")
        self._check_new_rows(base, rows)

    def _due(self, module: str, part: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        parts = self.modules[module]
        rank = parts[A].shape[0] if A in parts else 0
        shapes = {A: (rank, shape[-1]), B: (shape[0], rank), TOKENS: (len(self.tokens(module)), shape[-1])}
        return shapes.get(part, shape)

    def _check_new_rows(self, base: Mapping[str, StoredTensor], rows: int) -> None:
        """A token that the tokenizer added has a row in embeddings and head."""
        for name in (EMBEDDING, HEAD):
            if name in base and rows > base[name].shape[0]:
                module = name.removesuffix(".weight")
                have = set(self.tokens(module)) if TOKENS in self.parts(module) else set()
                missing = [number for number in range(base[name].shape[0], rows) if number not in have]
                if missing and WEIGHT not in self.parts(module):
                    remedy = "train the new tokens (trainable_token_indices)"
                    raise InputError(f"{self.folder}: token {missing[0]} was added but {module} has no row for it", remedy)

    def _misfit(self, module: str, why: str) -> None:
        raise InputError(f"{self.folder}: belongs to another base: {module} {why}", "give the base it was trained on")

    def merged(self, tensor: StoredTensor, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """A tensor of the base with everything that the adapter has for it, in float32."""
        import numpy as np

        module, _, kind = tensor.name.rpartition(".")
        parts = self.modules.get(module, {})
        whole = parts.get(BIAS if kind == BIAS else WEIGHT)
        values = (whole or tensor).load()
        if kind == BIAS:
            return values
        if values.shape != shape:
            grown = np.zeros(shape, np.float32)
            grown[: len(values)] = values
            values = grown
        if A in parts:
            values += (parts[B].load() @ parts[A].load()) * np.float32(self.scale(module))
        if TOKENS in parts:
            values[self.tokens(module)] = parts[TOKENS].load()
        return values


def _of_pattern(patterns: Mapping[str, Any], module: str, default: Any) -> Any:
    """The value whose pattern a module's name ends in, as PEFT looks it up."""
    return next((value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", module)), default)


def read_adapter(folder: Path) -> Adapter:
    """Read ``adapter_config.json`` and the header of ``adapter_model.safetensors``. Raises InputError."""
    where = folder / "adapter_config.json"
    config = read_json(where, "name the output folder of finetune/train.py, or an adapter")
    if config.get("peft_type") != "LORA":
        raise InputError(f"{where}: {config.get('peft_type')} cannot be merged", "train a LoRA adapter")
    odd = [key for key, value in config.items() if value and key not in _TRAINING_ONLY | _MERGED]
    if config.get("init_lora_weights", True) not in _PLAIN_STARTS:
        odd.append("init_lora_weights")
    if odd:
        raise InputError(f"{where}: {odd[0]} = {config[odd[0]]!r} cannot be merged here", "merge it with PEFT itself")
    modules: dict[str, dict[str, StoredTensor]] = {}
    for name, tensor in read_tensors(folder, "adapter_model").items():
        plain = name.removeprefix(_PREFIX)
        ending = next((end for end in sorted(_PARTS, key=len, reverse=True) if plain.endswith(f".{end}")), None)
        if ending is None or any(word in plain for word in ("lora_embedding", "lora_magnitude", "lora_B.bias")):
            raise InputError(f"{tensor.path}: {name} cannot be merged here", "merge it with PEFT itself")
        modules.setdefault(plain.removesuffix(f".{ending}"), {})[_PARTS[ending]] = tensor
    if not modules:
        raise InputError(f"{folder}: the adapter holds no tensors", "save it again")
    return Adapter(folder, config, modules)
''',
    'finetune.merge': r'''"""Merge a LoRA adapter into the 16-bit weights of its base, with numpy, one tensor at a time:

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
''',
    'finetune.progress': r'''"""A progress bar on stderr for steps of the road that take more than a moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def counting(total: int | None, noun: str) -> Iterator[Callable[[], None]]:
    """A function to call after each piece of work; the bar has an estimate of the time left where ``total`` is known."""
    from rich.console import Console

    from harness.jobs.progress import Progress

    with Progress(Console(stderr=True), total, noun) as progress:
        yield progress.advance
''',
    'finetune.quantise': r'''"""Which type each tensor of a GGUF gets, its bytes, and one GGUF from another:

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
''',
    'finetune.sft.base': r'''"""The base model of a run: where it lies, what its ``config.json`` says, its hash. Nothing here loads weights."""

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
''',
    'harness.arguments': r'''"""argparse as the whole command line uses it: no abbreviations, and errors that are one line with a remedy."""

from __future__ import annotations

import argparse
import sys
from functools import wraps

from harness.errors import Exit, MarginaliaError, UsageError

TYPE_CHECKING = False  # importing typing for it would cost a fifth of the time of --help
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn, ParamSpec

    P = ParamSpec("P")


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Help of a fixed width: asking the terminal for its width would import archive formats (by way of shutil)."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=110)


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that raises UsageError instead of printing its usage and leaving."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, "formatter_class": Formatter, **options})

    def error(self, message: str) -> NoReturn:
        """Raise UsageError with ``message``."""
        raise UsageError(message, f"see: {self.prog} --help")


def guarded(work: Callable[P, int]) -> Callable[P, int]:
    """The ``main`` of a script whose failures are one line on stderr, free of escape codes, and an exit code."""

    @wraps(work)
    def main(*args: P.args, **options: P.kwargs) -> int:
        try:
            return int(work(*args, **options))
        except MarginaliaError as error:
            from harness.console import clean

            sys.stderr.write(f"error: {clean(str(error))}\n")
            return int(error.exit)
        except KeyboardInterrupt:
            sys.stderr.write("interrupted; what is done is kept, the same command goes on from there\n")
            return int(Exit.INTERRUPTED)

    return main
''',
    'harness.config': r'''"""Settings and the user's data folder.

Order: defaults < ``config.toml`` in the data folder < ``./marginalia.toml`` < environment < options.
"""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from harness.errors import UsageError

ROOT = Path(__file__).resolve().parent.parent
"""The checkout (or the installed copy): registry, skills and bundled models lie below it."""


def home(environment: Mapping[str, str] = os.environ) -> Path:
    """The user's data folder: ``$MARGINALIA_HOME``, else the platform's rule (XDG, Application Support, LOCALAPPDATA)."""
    if explicit := environment.get("MARGINALIA_HOME"):
        return Path(os.path.expanduser(explicit))
    if sys.platform == "win32":
        return Path(environment.get("LOCALAPPDATA") or Path.home() / "AppData/Local") / "marginalia"
    if sys.platform == "darwin":
        return Path.home() / "Library/Application Support/marginalia"
    return Path(environment.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "marginalia"


@dataclass(frozen=True)
class Settings:
    """All settings; each can stand in a TOML file under its own name and in the environment as ``MARGINALIA_NAME``."""

    model: str = ""
    """Model to use instead of the registry's choice."""
    chat_model: str = ""
    """General chat model ("producer") for plain text; empty takes the first one that the daemon has."""
    embedder: str = ""
    """Embedding model for searches: a model of Ollama or the path of a GGUF file; empty searches by words alone."""
    embedder_query_prefix: str = "auto"
    """What the embedding model is given before a question; ``auto`` goes by its family."""
    embedder_passage_prefix: str = "auto"
    """The same before a passage. Another one embeds everything anew."""
    store: str = ""
    """Where the search index lies: ``qdrant:http://HOST:6333`` or ``qdrant:FOLDER``; empty is the built-in one."""
    ollama_host: str = ""
    """As Ollama's own OLLAMA_HOST; empty is 127.0.0.1:11434."""
    keep_alive: str = "10m"
    workers: int = 0
    """Requests at once; 0 leaves it to the backend."""
    threads: int = 0
    """CPU threads of the embedded runtime; 0 takes the cores that are there."""
    offline: bool = False
    json: bool = False
    yes: bool = False
    verbose: bool = False
    log: bool = True
    timeout: float = 600.0
    """Seconds without a sign of life before a model request counts as failed."""


_KINDS = {bool: "true or false", int: "a whole number of 0 or more", float: "a number of 0 or more", str: "a text"}


def _coerce(name: str, value: Any, where: str) -> Any:
    """A value from TOML or the environment as the type of its setting; a clear error where it cannot be."""
    kind = type(getattr(Settings(), name))
    try:
        if kind is bool:
            if isinstance(value, bool):
                return value
            lowered = str(value).strip().lower()
            if lowered in {"1", "true", "yes", "on"}:
                return True
            if lowered in {"0", "false", "no", "off", ""}:
                return False
            raise ValueError
        if kind is not str and float(value) < 0:
            raise ValueError
        return kind(value)
    except (TypeError, ValueError):
        raise UsageError(f"{where}: {name} = {value!r} is not {_KINDS[kind]}", "correct or remove it") from None


def _read_toml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: cannot be read as TOML ({error})", "correct it or move it away") from None
    known = {field.name for field in fields(Settings)}
    if unknown := sorted(set(values) - known):
        raise UsageError(f"{path}: unknown setting {unknown[0]!r}", f"known: {', '.join(sorted(known))}")
    return {name: _coerce(name, value, str(path)) for name, value in values.items()}


def _working_folder() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise UsageError("the working folder is gone", "change to one that exists") from None


def load_settings(
    options: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] = os.environ,
    folder: Path | None = None,
) -> Settings:
    """Settings in force. ``options`` are the command line's; those that are None were not given.

    Raises UsageError for a file or value that cannot be used.
    """
    settings = replace(Settings(), **_read_toml(home(environment) / "config.toml"))
    settings = replace(settings, **_read_toml((folder or _working_folder()) / "marginalia.toml"))
    from_environment = {
        field.name: _coerce(field.name, environment[key], key)
        for field in fields(Settings)
        if (key := f"MARGINALIA_{field.name.upper()}") in environment
    }
    if "OLLAMA_HOST" in environment and "ollama_host" not in from_environment:
        from_environment["ollama_host"] = environment["OLLAMA_HOST"]
    settings = replace(settings, **from_environment)
    given = {name: value for name, value in (options or {}).items() if value is not None}
    return replace(settings, **given)
''',
    'harness.console': r'''"""Standard input, output and error: results go to stdout, messages to stderr, and data never raw to a terminal."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from harness.skills import Outcome

MAX_STDIN = 256 * 1024 * 1024
"""Bytes of standard input that are read into memory; more belongs into a file."""

_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]{0,64}[ -/]{0,8}[@-~]"  # CSI: colours, cursor movement
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d\x9e\x9f])[^\x07\x1b\x9c]{0,4096}(?:\x07|\x1b\\|\x9c)"  # OSC, DCS …: titles, clipboard
    r"|\x1b[ -/]{0,4}[0-~]"  # the other, short ones
)
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""C0 but tab and newline, DEL, C1, and the characters that override the direction of writing."""


_CONTROL = [chr(code) for code in (*range(0x09), *range(0x0E, 0x1B), *range(0x1C, 0x20))]
"""What running text has next to none of."""


def clean(text: str) -> str:
    """``text`` without terminal escape codes and control characters; tabs and newlines stay, CRLF becomes LF.

    >>> clean("a \\x1b[31mred\\x1b[0m word\\r\\n\\x07")
    'a red word\\n'
    """
    return _UNSAFE.sub("", _SEQUENCE.sub("", text.replace("\r\n", "\n")))


def json_line(record: Mapping[str, Any]) -> str:
    """``record`` as one line of JSON, readable as to letters, with control characters escaped and so harmless."""
    line = json.dumps(record, ensure_ascii=False, allow_nan=False, default=str)
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", line)


def stdout_is_terminal() -> bool:
    """True where results are read by a person, not by a program."""
    return sys.stdout is not None and sys.stdout.isatty()


def stdin_is_terminal() -> bool:
    """True where a person types (no piped input)."""
    return sys.stdin is not None and sys.stdin.isatty()


def prepare_streams() -> None:
    """UTF-8 for what programs read, and no character that could stop the work: what cannot be shown is escaped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding=None if stream.isatty() else "utf-8", errors="backslashreplace")


def _safe_console(*, stderr: bool) -> Console:
    from rich.console import Console

    class SafeConsole(Console):
        """Prints strings as data: no markup, no emoji codes, no control characters. Colour comes by ``style=``."""

        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(clean(text), **options)

    return SafeConsole(stderr=stderr, markup=False, emoji=False, highlight=False, soft_wrap=True)


def stderr_console() -> Console:
    """The console for messages, progress and tables that are not results. It honours NO_COLOR."""
    return _safe_console(stderr=True)


def stdout_console() -> Console:
    """The console for results that a person reads on a terminal."""
    return _safe_console(stderr=False)


def show_markdown(text: str) -> None:
    """Write Markdown to stdout: rendered on a terminal, as it is (but for control characters) when piped."""
    if not stdout_is_terminal():
        show_plain(text)
        return
    from rich.markdown import Markdown

    stdout_console().print(Markdown(clean(text).rstrip("\n"), hyperlinks=False), soft_wrap=False)


def show_plain(text: str) -> None:
    """Write text to stdout as it is, but for control characters."""
    sys.stdout.write(clean(text).rstrip("\n") + "\n")


def show_outcome(outcome: Outcome, *, as_json: bool) -> None:
    """Write the result of a task to stdout: its records, or its text unless files were saved."""
    if as_json:
        show_records(outcome.records or ([{"text": outcome.text}] if outcome.text else []))
    elif outcome.text and not outcome.saved:
        (show_plain if outcome.plain else show_markdown)(outcome.text)
    sys.stdout.flush()


def show_records(records: Iterable[Mapping[str, Any]]) -> None:
    """Write records to stdout, one JSON object a line."""
    for record in records:
        sys.stdout.write(json_line(record) + "\n")


def show_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Sequence[int] = (), most: int = 0
) -> None:
    """Write a table to stdout: drawn on a terminal, separated by tabs (headings first) for programs.

    On a terminal the columns ``numbers`` are set flush right, and cells are one line of ``most`` characters (0: whole).
    """
    if not stdout_is_terminal():
        for row in (columns, *rows) if any(columns) else rows:
            sys.stdout.write("\t".join(" ".join(clean(cell).split()) for cell in row) + "\n")
        return
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD if any(columns) else None, show_header=any(columns), pad_edge=False)
    for position, column in enumerate(columns):
        table.add_column(column, justify="right" if position in numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cut(cell, most) if most else cell for cell in row))
    stdout_console().print(table, soft_wrap=False)


def _cut(cell: str, most: int) -> str:
    line = " ".join(cell.split())
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"


def decode(data: bytes) -> str:
    """Text from bytes of unknown encoding: by byte-order mark, else UTF-8, else Windows-1252 (which fits most others)."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def read_stdin(limit: int = MAX_STDIN) -> str | None:
    """What was piped in, decoded; None where standard input is a terminal, closed or empty.

    Says so on stderr while nothing comes. Raises InputError for more than ``limit`` bytes and for what is no text.
    """
    if sys.stdin is None or sys.stdin.closed or stdin_is_terminal():
        return None
    _notice_silence()
    source = getattr(sys.stdin, "buffer", None)
    data = source.read(limit + 1) if source is not None else sys.stdin.read(limit + 1).encode("utf-8", "replace")
    if len(data) > limit:
        raise InputError(
            f"standard input: more than {limit // 2**20} MB", "save it to a file and name the file in the task"
        )
    text = decode(data)
    head = text[: 2**16]
    if sum(map(head.count, _CONTROL)) > len(head) / 20:
        raise InputError("standard input is binary, not text", "pipe CSV, JSONL, JSON, BibTeX or text, or name the file")
    return text if text.strip() else None


def _notice_silence(seconds: float = 2.0) -> None:
    """One line on stderr where a pipe stays silent: else a forgotten one looks like a hang."""
    import select

    try:
        ready = bool(select.select([sys.stdin], [], [], seconds)[0])
    except (OSError, ValueError):  # Windows, or a stand-in without a file descriptor
        return
    if not ready:
        sys.stderr.write("waiting for standard input (add </dev/null where none is meant)\n")
''',
    'harness.errors': r'''"""Errors that a user can do something about. Each is one clear line and carries the exit code of DESIGN.md.

A traceback that reaches the user is a bug; these are not.
"""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of the command line."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NO_MODEL = 3
    INTERRUPTED = 130


class MarginaliaError(Exception):
    """A failure with one line of text and, where there is one, the remedy.

    ``message`` names what is wrong and where (file, row); ``remedy`` is what the user can do.
    """

    exit = Exit.FAILED

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}" if self.remedy else self.message


class UsageError(MarginaliaError):
    """The command line or the task is wrong."""

    exit = Exit.USAGE


class InputError(MarginaliaError):
    """A file or a row cannot be used."""


class NoModelError(MarginaliaError):
    """No model can run this here."""

    exit = Exit.NO_MODEL


class ModelError(MarginaliaError):
    """A model answered with an error; the request may not be repeated as it is."""


class ModelUnavailable(ModelError):
    """The backend could not be reached, was busy or died: the same request may be sent again."""


class ContextOverflow(ModelError):
    """Prompt and output do not fit into the model's context."""


class Offline(MarginaliaError):
    """The task needs the network and ``--offline`` is in force."""
''',
    'harness.readers.text': r'''"""Text from files and standard input: encodings found out, lines bounded, binary files refused."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from harness.errors import InputError

MAX_RECORD = 16 * 1024 * 1024
"""Characters that one line, cell or row may have. The largest real row seen (3,303 authors) has 60,000."""
MAX_DOCUMENT = 64 * 1024 * 1024
"""Bytes of a file that has to be parsed as a whole (JSON, BibTeX)."""
SMALL = 16 * 1024 * 1024
"""Bytes up to which a table is walked once beforehand, to count its rows and see all its columns."""

_CHUNK = 1024 * 1024
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SIGNATURES = (
    (b"%PDF", "a PDF", "rename it to end in .pdf"),
    (b"PAR1", "a Parquet file", "rename it to end in .parquet"),
    (b"PK\x03\x04", "a zip archive or an Office document", "unpack it, or export the sheet as CSV"),
    (b"\xd0\xcf\x11\xe0", "an Office document", "export the sheet as CSV"),
    (b"\x1f\x8b", "compressed with gzip", "unpack it first"),
    (b"SQLite format 3\x00", "a SQLite database", "export the table as CSV"),
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTROL = bytes(sorted({*range(32), 127} - set(b"\t\n\r\f\x1b")))
_CP1252_UNDEFINED = b"\x81\x8d\x8f\x90\x9d"


def writable(text: str) -> str:
    """``text`` without lone surrogates, halves of characters that no file or database could hold (they come from JSON
    escapes, and from bytes of arguments, input and file names that are not UTF-8)."""
    return _SURROGATE.sub("\ufffd", text)


def shown(text: str, width: int = 60) -> str:
    """``text`` fit for a message: printable, on one line, at most ``width`` characters."""
    line = "".join(c if c.isprintable() else "�" for c in " ".join(text.split()))
    return line if len(line) <= width else line[: width - 1] + "…"


@dataclass(frozen=True)
class Text:
    """A text that can be opened again and again: a file in its encoding, or what came on standard input."""

    name: str
    size: int
    """Bytes of the file, or characters of a string."""
    open: Callable[[], TextIO]

    def lines(self) -> Iterator[str]:
        """Lines with their ends. Raises InputError at one of more than MAX_RECORD characters, having read no further."""
        with self.open() as stream:
            number = 0
            while line := stream.readline(MAX_RECORD + 1):
                number += 1
                if len(line) > MAX_RECORD:
                    raise InputError(
                        f"{self.name}: line {number} is longer than {MAX_RECORD >> 20} million characters",
                        "this is hardly a table of papers",
                    )
                yield line

    def whole(self, limit: int = MAX_DOCUMENT) -> str:
        """All of it. Raises InputError where it is larger than ``limit`` bytes."""
        if self.size > limit:
            raise InputError(
                f"{self.name} is larger than the {limit >> 20} MB that can be read at once",
                "split it, or give the papers as CSV or JSONL",
            )
        with self.open() as stream:
            return stream.read()


def from_string(name: str, text: str) -> Text:
    """A ``Text`` over a string."""
    text = writable(text).removeprefix("\ufeff")
    return Text(name, len(text), lambda: io.StringIO(text, newline=""))


def from_path(path: Path, notes: list[str]) -> Text:
    """A ``Text`` over a file; a guessed encoding is remarked in ``notes``.

    Raises InputError for a file that is empty, binary or not readable.
    """
    try:
        size = path.stat().st_size
        if not size:
            raise InputError(f"{path} is empty")
        encoding, remark = _detect(path)
    except OSError as error:
        raise unreadable(path, error) from error
    if remark:
        notes.append(f"{path}: {remark}")
    # Validated as UTF-8 where it claims to be; elsewhere a stray byte becomes U+FFFD instead of ending the run.
    return Text(writable(str(path)), size, lambda: path.open(encoding=encoding, errors="replace", newline=""))


def unreadable(path: Path, error: OSError) -> InputError:
    """One line for what the operating system said about ``path``."""
    return InputError(f"{path} cannot be read: {error.strerror or error}")


def _detect(path: Path) -> tuple[str, str]:
    """Name of the encoding and a remark where it was guessed. Raises InputError for a binary file."""
    with path.open("rb") as stream:
        head = stream.read(65536)
        for mark, encoding in _BOMS:
            if head.startswith(mark):
                return encoding, ""
        for signature, what, remedy in _SIGNATURES:
            if head.startswith(signature):
                raise InputError(f"{path} is {what}, not text", remedy)
        if encoding := _utf16_without_mark(head):
            return encoding, "read as UTF-16 (no byte-order mark)"
        stream.seek(0)
        encoding = _eight_bit(iter(lambda: stream.read(_CHUNK), b""))
    # Control characters: a stray one survives in text; valid UTF-8 full of them, or other bytes with some, is no text.
    control = sum(map(head.count, (bytes([c]) for c in _CONTROL))) / len(head)
    if control > (0.3 if encoding == "utf-8" else 0.02):
        raise InputError(f"{path} is a binary file, not text", "give CSV, JSONL, JSON, BibTeX, PDF or text")
    return encoding, "" if encoding == "utf-8" else f"not UTF-8; read as {encoding}, check accented letters"


def _utf16_without_mark(head: bytes) -> str:
    pairs = len(head) // 2
    low, high = head[0::2].count(0), head[1::2].count(0)
    if high > 0.4 * pairs and low < 0.05 * pairs:
        return "utf-16-le"
    return "utf-16-be" if low > 0.4 * pairs and high < 0.05 * pairs else ""


def _eight_bit(chunks: Iterator[bytes]) -> str:
    """``utf-8`` where every byte fits, else ``cp1252`` where every byte is defined there, else ``latin-1``."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    utf8 = cp1252 = True
    for chunk in chunks:
        if utf8:
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError:
                utf8 = False
        cp1252 = cp1252 and not any(byte in chunk for byte in _CP1252_UNDEFINED)
    if utf8:
        try:
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            utf8 = False
    if utf8:
        return "utf-8"
    return "cp1252" if cp1252 else "latin-1"
''',
    'skills.expand.expansion': r'''"""An expansion: ``hyde:``, ``lex:`` and ``vec:`` lines for one query. Read, write, and take a ``lex`` line apart.

``lex`` lines go to full-text search, ``vec`` lines and the ``hyde`` passage (a hypothetical document, Gao et al. 2022) to
vector search. Training, evaluation and serving all import this module; nothing here imports a model runtime.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from harness.console import clean
from harness.readers.text import writable

TYPES = ("hyde", "lex", "vec")
"""In the order in which they are written."""
MOST = {"hyde": 1, "lex": 4, "vec": 4}
"""Lines of a type that a model may write."""
LONGEST = {"hyde": 600, "lex": 120, "vec": 240}
"""Characters of a line; a longer one is the product of a loop. The longest of 3,118 gold lines have 435, 75 and 125."""
_LINE = re.compile(r"\s*(hyde|lex|vec):(.*)", re.DOTALL)
_THOUGHTS = re.compile(r"<think>.*?</think>", re.DOTALL)
_END_OF_TURN = re.compile(r"<\|(?:im_end|endoftext)\|>")
_TERM = re.compile(r'(?P<minus>(?<!\S)-(?="|\w\w))?(?:"(?P<phrase>[^"]*)"|(?P<word>[^\s"]+)|")')


@dataclass(frozen=True)
class Line:
    """One line of an expansion."""

    type: str
    """``hyde``, ``lex`` or ``vec``."""
    text: str

    def __str__(self) -> str:
        return f"{self.type}: {self.text}"

    def record(self) -> dict[str, str]:
        """As it stands in JSON."""
        return {"type": self.type, "text": self.text}


@dataclass(frozen=True)
class Lexical:
    """What a ``lex`` line asks full-text search for."""

    words: tuple[str, ...]
    phrases: tuple[str, ...]
    """Quoted: their words stand together, in this order."""
    excluded: tuple[str, ...]
    """Words and phrases after a minus sign: a document that holds one is not wanted."""


def one_line(text: str) -> str:
    """Foreign text on one line, without control characters and halves of characters."""
    return " ".join(clean(writable(" ".join(text.split()))).split())


def parse_expansion(text: str) -> tuple[list[Line], list[str]]:
    """The lines of a model's answer, in its order, and what in it is no line (without its type, empty, a chat token).

    Thoughts before the answer and what follows the end of the turn do not count as a part of it.

    >>> parse_expansion("lex: auth settings\\nSure! Here is more:\\nvec: how to configure login")
    ([Line(type='lex', text='auth settings'), Line(type='vec', text='how to configure login')], ['Sure! Here is more:'])
    """
    answer = _END_OF_TURN.split(_THOUGHTS.sub("", text), maxsplit=1)[0]
    lines, malformed = [], []
    for raw in answer.split("\n"):
        match = _LINE.match(raw)
        content = one_line(match[2]) if match else ""
        if match and content and "<|" not in content:
            lines.append(Line(match[1], content))
        elif raw.strip():
            malformed.append(one_line(raw))
    return lines, malformed


def lines_of(pairs: Iterable[Iterable[Any]]) -> list[Line]:
    """Lines from ``[[type, text], …]``, as data sets and the journal keep them. ValueError for another type or no text."""
    lines = []
    for pair in pairs:
        kind, text = pair
        if kind not in TYPES or not isinstance(text, str) or not one_line(text):
            raise ValueError(f"not a line of an expansion: {pair!r}")
        lines.append(Line(kind, one_line(text)))
    return lines


def render(lines: Iterable[Line]) -> str:
    """One ``type: text`` line each: hyde, then lex, then vec, and within a type in the order given."""
    return "\n".join(map(str, ordered(lines)))


def ordered(lines: Iterable[Line]) -> list[Line]:
    """The lines sorted by type, in the order of ``TYPES``."""
    return sorted(lines, key=lambda line: TYPES.index(line.type))


def parse_lex(text: str) -> Lexical:
    """A ``lex`` line taken apart. A minus sign excludes where it begins a word of two letters or more, or a phrase.

    So ``-i`` remains a word (an option of some command), and so does a hyphen inside a word.

    >>> parse_lex('"cache miss" profiling -sports git rebase -i')
    Lexical(words=('profiling', 'git', 'rebase', '-i'), phrases=('cache miss',), excluded=('sports',))
    """
    words: list[str] = []
    phrases: list[str] = []
    excluded: list[str] = []
    for match, term in _terms(text):
        (excluded if match["minus"] else phrases if match["phrase"] else words).append(term)
    return Lexical(tuple(words), tuple(phrases), tuple(excluded))


def terms_of(text: str) -> list[tuple[str, bool]]:
    """The words and phrases of a ``lex`` line as they stand, each with whether it is excluded.

    >>> terms_of('"cache miss" profiling -sports')
    [('cache miss', False), ('profiling', False), ('sports', True)]
    """
    return [(term, bool(match["minus"])) for match, term in _terms(text)]


def _terms(text: str) -> Iterator[tuple[re.Match[str], str]]:
    for match in _TERM.finditer(text):
        if term := (match["phrase"] or match["word"] or "").strip():
            yield match, term
''',
    'skills.expand.prompt': r'''"""Prompt contract ``expand@1``: the bytes of the prompt and the shape of the answer of a model tuned for expansion.

The prompt is Qwen3's chat template with thinking off (``enable_thinking=False``), for one user turn:

    <|im_start|>user
    /no_think Expand this search query: QUERY<|im_end|>
    <|im_start|>assistant
    <think>

    </think>

with the block of thoughts empty and two line ends after it. A ``/only:TYPE`` follows the query where only one type is
wanted, and ``Query intent: …`` stands on a line of its own below it where one is known. The answer is lines of
``expansion.py`` and the end of the turn. Training and every runtime take their bytes from here: the embedded one and
Ollama are sent ``render_prompt`` as a raw prompt, ``TEMPLATE`` gives a bare ``ollama run`` the same, ``CHAT_TEMPLATE``
travels inside the GGUF for whatever else serves it. Nothing here imports a model runtime.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.errors import InputError, UsageError
from skills.expand.expansion import LONGEST, MOST, TYPES, Line, one_line, render

CONTRACT = "expand@1"
INSTRUCTION = "/no_think Expand this search query: "
END = "<|im_end|>"
HEAD = f"<|im_start|>user\n{INSTRUCTION}"
TAIL = f"{END}\n<|im_start|>assistant\n<think>\n\n</think>\n\n"

TEMPLATE = f"{HEAD}{{{{ .Prompt }}}}{TAIL}{{{{ .Response }}}}"
"""The same prompt as a Go template, for the Modelfile."""

STOPS = (END, "<|im_start|>", "<|endoftext|>")
"""Texts that end the answer."""

CHAT_TEMPLATE = (
    "{#- Prompt contract expand@1 of Marginalia: a user's message is the bare search query, or the whole instruction; "
    "the model was trained without system messages, and thinking is always off. "
    "The answer is hyde:, lex: and vec: lines. -#}\n"
    "{%- for message in messages -%}\n"
    "{%- if message['role'] == 'user' -%}\n"
    "{{- '<|im_start|>user\\n' -}}\n"
    f"{{%- if not message['content'].startswith('{INSTRUCTION}') -%}}{{{{- '{INSTRUCTION}' -}}}}{{%- endif -%}}\n"
    "{{- message['content'] + '<|im_end|>\\n' -}}\n"
    "{%- elif message['role'] == 'assistant' -%}\n"
    "{{- '<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n' + message['content'] + '<|im_end|>\\n' -}}\n"
    "{%- endif -%}\n"
    "{%- endfor -%}\n"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n' -}}{%- endif -%}"
)
"""The same prompt as a Jinja template, for the GGUF. Its comment also keeps it from being like any template that Ollama
knows: within an edit distance of 100 the daemon would take its own instead."""

OUTPUT_TOKENS = 400
"""An answer needs about 60 to 150."""
LINE_TOKENS = 200
"""The same for a single line that is asked for again."""
LEAST_MORE = 10
"""Characters that a line which was begun must go on for: a shorter one would find what its beginning finds."""
LONGEST_QUERY = 2000
"""Characters of a query, and of an intent."""
_ONLY = re.compile(r"^\s*/only:(\S*)(?=\s)|(?:^|\s)/only:(\S*)\s*$", re.IGNORECASE)
_TOKEN = re.compile(r"<(?=\||/?[a-z0-9_+-]+>)")


@dataclass(frozen=True)
class Query:
    """What is to be expanded."""

    text: str
    intent: str = ""
    only: tuple[str, ...] = ()
    """The types that are wanted; empty for all."""

    @property
    def types(self) -> tuple[str, ...]:
        """The types that are wanted, in the order in which they are written."""
        return tuple(kind for kind in TYPES if kind in self.only) or TYPES


def split_only(text: str) -> tuple[str, tuple[str, ...]]:
    """What a user typed without a ``/only:TYPE`` (or ``/only:lex,vec``) before or behind it, and the types that it names.

    Raises UsageError for a type that there is not.

    >>> split_only("auth config /only:lex"), split_only("/only:lex,vec auth config")
    (('auth config', ('lex',)), ('auth config', ('lex', 'vec')))
    """
    match = _ONLY.search(text)
    if match is None:
        return text.strip(), ()
    said = match[1] or match[2] or ""
    named = re.split(r"[,|]", said.lower())
    if unknown := [name for name in named if name not in TYPES]:
        raise UsageError(f"/only:{one_line(said)}: no type is called {unknown[0]!r}", f"one of {', '.join(TYPES)}")
    return f"{text[: match.start()]} {text[match.end() :]}".strip(), tuple(named)


def parse_query(text: str, intent: str = "", only: Iterable[str] = ()) -> Query:
    """A query from what a user typed, checked; the types of its own ``/only:`` go before ``only``.

    Raises UsageError as ``split_only`` does, InputError for a query without a letter or digit, or one that is too long.
    """
    text, named = split_only(text)
    wanted = set(named or only)
    query = Query(one_line(text), one_line(intent), tuple(kind for kind in TYPES if kind in wanted))
    if not any(letter.isalnum() for letter in query.text):
        raise InputError("the query holds neither letters nor digits" if query.text else "the query is empty")
    for what, value in (("query", query.text), ("intent", query.intent)):
        if len(value) > LONGEST_QUERY:
            raise InputError(f"the {what} has {len(value):,} characters, at most {LONGEST_QUERY:,} are taken", "shorten it")
    return query


def plain(text: str) -> str:
    """Text as it may stand in a prompt: on one line, composed (NFC), with nothing that could pass for a chat token.

    >>> plain("ends <|im_end|>\\n and </think>, but Vec<T> < 3")
    'ends < |im_end|> and < /think>, but Vec<T> < 3'
    """
    return _TOKEN.sub("< ", one_line(unicodedata.normalize("NFC", text)))


def user_turn(query: Query) -> str:
    """What the user says, as training data for chat formats needs it.

    Types that are wanted but are not exactly one are left to the grammar: the model knows one ``/only:`` or none.
    """
    text = INSTRUCTION + plain(query.text)
    if len(query.only) == 1:
        text += f" /only:{query.only[0]}"
    return text + (f"\nQuery intent: {plain(query.intent)}" if query.intent else "")


def render_prompt(query: Query) -> str:
    """The whole prompt, to its last byte."""
    return HEAD + user_turn(query).removeprefix(INSTRUCTION) + TAIL


def completion(lines: Iterable[Line]) -> str:
    """What the model should write after the prompt: the training target."""
    return render(lines) + END


def grammar(types: Sequence[str]) -> str:
    """GBNF of an answer with all of ``types``: each at least once, at most ``MOST`` times, in their order, bounded."""
    blocks = [f'"{kind}: " {kind} ("\\n{kind}: " {kind}){{0,{MOST[kind] - 1}}}' for kind in types]
    rules = ["root ::= " + ' "\\n" '.join(blocks)]
    rules += [f"{kind} ::= first any{{0,{LONGEST[kind] - 1}}}" for kind in types]
    return "\n".join([*rules, *_LETTERS])


def line_grammar(kind: str, start: str = "") -> str:
    """GBNF of the rest of one line after ``TYPE:`` and ``start``: a space and at least ``LEAST_MORE`` characters."""
    room = max(LEAST_MORE, LONGEST[kind] - len(start) - 2)
    return "\n".join([f'root ::= " " first any{{{LEAST_MORE - 1},{room}}}', *_LETTERS])


_LETTERS = ("any ::= [^\\x00-\\x1F\\x7F]", "first ::= [^\\x00-\\x20\\x7F]")
''',
}

class _Carried(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports the modules that this file carries."""

    def find_spec(self, name, path=None, target=None):
        package = any(other.startswith(name + ".") for other in MODULES)
        if name not in MODULES and not package:
            return None
        return importlib.util.spec_from_loader(name, self, origin=f"carried/{name}", is_package=package)

    def exec_module(self, module):
        module.__file__ = f"carried/{module.__name__.replace('.', '/')}.py"
        exec(compile(MODULES.get(module.__name__, ""), module.__file__, "exec"), module.__dict__)


sys.meta_path.insert(0, _Carried())

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

from finetune.gguf_release import TYPES, file_name, release
from finetune.jobs.source.cloud import AUTO, model_folder, push
from finetune.quantise import as_outtype
from harness.errors import MarginaliaError

DEPENDENCIES = ("gguf>=0.19,<1", "huggingface-hub>=1", "numpy>=2", "pyyaml>=6", "rich>=15")
FILES = ()
ALSO = ("finetune.convert_gguf",)


def main(argv: Sequence[str] | None = None) -> int:
    """Merge, convert, quantise, upload."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("1.7B", "4B"), default="1.7B", help="of Qwen3 (default 1.7B)")
    parser.add_argument("--base", default="", metavar="REF", help="another base than Qwen/Qwen3-SIZE")
    parser.add_argument("--sft", default=AUTO, metavar="REF", help="adapter that is merged first (default: yours)")
    parser.add_argument("--grpo", default=AUTO, metavar="REF", help="adapter that is merged second; none: SFT alone")
    parser.add_argument("--types", default=",".join(TYPES), metavar="A,B", help=f"default {','.join(TYPES)}")
    parser.add_argument("--push", default=AUTO, metavar="REPO", help="where the files go (default: yours); none keeps them")
    parser.add_argument("--out", type=Path, default=Path("gguf"), metavar="FOLDER", help="where they are written first")
    parser.add_argument("--dry-run", action="store_true", help="show what would be read and written, and stop")
    args = parser.parse_args(argv)
    name = f"qmd-query-expansion-{args.size}"
    base = args.base or f"Qwen/Qwen3-{args.size}"
    try:
        types = [as_outtype(one.strip()) for one in args.types.split(",")]
        if args.dry_run:
            files = [file_name(args.size, one) for one in types]
            print(json.dumps({"base": base, "sft": args.sft, "grpo": args.grpo, "files": files}, indent=1))
            return 0
        named = [(args.sft, f"{name}-sft"), (args.grpo, f"{name}-grpo")]
        adapters = [model_folder(given, usual) for given, usual in named if given != "none"]
        threads = os.cpu_count() or 1
        release(model_folder(base), adapters, args.out, size=args.size, types=types, threads=threads, say=print)
    except MarginaliaError as error:
        raise SystemExit(f"error: {error}") from None
    push(args.out, args.push, f"{name}-gguf")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
