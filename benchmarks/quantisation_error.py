"""What quantising costs: perplexity and KL divergence per type, next to size and speed; the peer is the f16 file.

    python benchmarks/quantisation_error.py [--base FOLDER] [--annotator FILE.gguf] [--papers 40] [--types q8_0,q4_K_M,…]

Each file is made by ``finetune.quantise`` and its weights are read back into transformers (float32), so that perplexity and
KL (f16 ‖ type) are those of the whole vocabulary and of the weights alone. Speed is llama.cpp's, one thread: prompt tokens
of abstracts per second. For the base the text of abstracts counts; for the annotator (``annotate/mark@1``) the distribution
at the marks, where perplexity means nothing and the share of equal labels stands in its place.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

from common import DATA, ROOT, need, report

from finetune.convert_gguf import convert
from finetune.gguf_arch import tensor_names
from finetune.llama_probe import probe
from finetune.quantise import as_outtype, requantise
from harness.models.base import Options, Request
from harness.models.embedded import EmbeddedModel
from harness.readers import open_papers
from skills.annotate import mark
from skills.annotate.record import sentences_of

TYPES = "q8_0,q6_K,q5_K_M,q5_0,q4_K_M,q4_0"


def texts_of(count: int, *, marks: bool) -> list[str]:
    """Prompts of the contract, or title and abstract."""
    source = open_papers(str(need(DATA / "papers/agentic_598.csv")), offline=True)
    papers = [paper for paper in islice(source.papers, count) if not paper.error]
    if not marks:
        return [f"{paper.title}\n\n{' '.join(paper.abstract.split())}" for paper in papers]
    found = []
    for paper in papers:
        lines = [sentence.text for sentence in sentences_of(paper)]
        start, end = mark.windows(lines)[0]
        found.append(mark.prompts(paper.title, lines[start:end])[-1])
    return found


def load(path: Path) -> Any:
    """A Qwen3 GGUF's weights, as they come out of their blocks, in transformers and float32."""
    import gguf
    import numpy as np
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    reader = gguf.GGUFReader(path)
    said = {name.removeprefix("qwen3."): field.contents() for name, field in reader.fields.items()}
    stored = {tensor.name: tensor for tensor in reader.tensors}
    tied = "output.weight" not in stored
    config = Qwen3Config(
        vocab_size=int(stored["token_embd.weight"].shape[1]),
        hidden_size=said["embedding_length"],
        intermediate_size=said["feed_forward_length"],
        num_hidden_layers=said["block_count"],
        num_attention_heads=said["attention.head_count"],
        num_key_value_heads=said["attention.head_count_kv"],
        head_dim=said["attention.key_length"],
        rms_norm_eps=said["attention.layer_norm_rms_epsilon"],
        max_position_embeddings=said["context_length"],
        rope_parameters={"rope_theta": said["rope.freq_base"], "rope_type": "default"},
        tie_word_embeddings=tied,
    )
    model = Qwen3ForCausalLM(config).float().eval()
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, short in tensor_names("qwen3", said["block_count"], tied=tied).items():
            values = gguf.quants.dequantize(stored[short].data, stored[short].tensor_type)
            parameters[name].copy_(torch.from_numpy(np.array(values, np.float32)))
    return model


def logprobs(model: Any, ids: tuple[int, ...], at: list[int]) -> Any:
    """``[positions, vocabulary]``."""
    import torch

    with torch.no_grad():
        return torch.log_softmax(model(torch.tensor([ids])).logits[0, at].float(), dim=-1)


def speed(gguf: Path, texts: list[str], tokens: int) -> float:
    """Prompt tokens a second, one thread, each text once and nothing cached."""
    model = EmbeddedModel(gguf, name=gguf.stem, threads=1, slots=1, context=2048)
    try:
        model.generate(Request(prompt="warm", options=Options(max_tokens=1)))
        start = time.perf_counter()
        for text in texts:
            model.generate(Request(prompt=text, options=Options(max_tokens=1)))
        return tokens / (time.perf_counter() - start)
    finally:
        model.close()


def measure(source: Path, types: list[str], papers: int, *, marks: bool, scratch: Path) -> list[dict[str, Any]]:
    """One record a type, f16 first."""
    texts = texts_of(papers, marks=marks)
    tokens = [ids for ids in probe(source, texts=texts).tokens if 8 < len(ids) < 1500]
    (mark_id,) = probe(source, texts=[mark.MARK]).tokens[0][-1:] if marks else (-1,)
    places = [[i for i, n in enumerate(ids) if n == mark_id] if marks else [*range(len(ids) - 1)] for ids in tokens]
    reference = load(source)
    due = [logprobs(reference, ids, at) for ids, at in zip(tokens, places, strict=True)]
    del reference
    records = []
    for name in ("f16", *types):
        path = source if name == "f16" else requantise(source, scratch / f"{name}.gguf", as_outtype(name))
        model = load(path)
        likelihood, divergence, same, count = 0.0, 0.0, 0, 0
        for ids, at, expected in zip(tokens, places, due, strict=True):
            found = logprobs(model, ids, at)
            divergence += float((expected.exp() * (expected - found)).sum())
            same += int((found.argmax(1) == expected.argmax(1)).sum())
            count += len(at)
            if not marks:
                likelihood += sum(float(found[row, ids[i + 1]]) for row, i in enumerate(at))
        del model
        gc.collect()
        sample = [*texts[:10]]
        records.append(
            {
                "type": name,
                "mb": round(path.stat().st_size / 1e6, 2),
                "perplexity": None if marks else round(float(2.718281828459045 ** (-likelihood / count)), 4),
                "kl": round(max(divergence / count, 0.0), 6),
                "same_top": round(same / count, 4),
                "positions": count,
                "tokens_per_second": round(speed(path, sample, sum(len(ids) for ids in tokens[:10])), 0),
            }
        )
    return records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, default=ROOT / "registry/marginalia-base/mini", help="checkpoint folder")
    parser.add_argument("--annotator", type=Path, default=ROOT / "registry/nanda-annotator/mini.gguf")
    parser.add_argument("--papers", type=int, default=40)
    parser.add_argument("--types", default=TYPES)
    args = parser.parse_args()
    types = args.types.split(",")
    header = ["type", "MB", "perplexity", "KL (nats)", "same top", "prompt tokens/s"]
    with tempfile.TemporaryDirectory() as name:
        base = convert(need(args.base), Path(name) / "f16.gguf", "f16")
        for title, source, marks in (("base", base, False), ("annotator", need(args.annotator), True)):
            records = measure(source, types, args.papers, marks=marks, scratch=Path(name))
            rows = [
                [
                    r["type"],
                    r["mb"],
                    r["perplexity"] or "-",
                    f"{r['kl']:.6f}",
                    f"{r['same_top']:.2%}",
                    r["tokens_per_second"],
                ]
                for r in records
            ]
            report(f"Quantisation error, bundled {title}, {args.papers} papers", header, rows, {"runs": records})


if __name__ == "__main__":
    main()
