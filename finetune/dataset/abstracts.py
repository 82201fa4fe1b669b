"""The pre-training corpus: abstracts to a byte-level BPE tokenizer and one long array of token ids.

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
