"""Whether a GGUF in embedded llama.cpp computes what its checkpoint (in f16) computes in transformers (float32).

    python benchmarks/gguf_parity.py [--hf FOLDER] [--gguf FILE] [--prompts 50] [--tokens 48]
    python benchmarks/gguf_parity.py --hf finetune_output/mini/model --gguf registry/nanda-annotator/mini.gguf

Greedy continuations of the beginnings of abstracts are compared token by token. Where the checkpoint speaks
``annotate/mark@1``, the label at every mark is compared too, the GGUF asked as /annotate asks it. A difference comes with
the checkpoint's own margin there, in logits between its first and second choice: rounding can only turn a near-tie, and
any other difference is a fault (exit 1). Without ``--gguf`` the folder is converted (f16) first.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from common import DATA, ROOT, need, report

from finetune.convert_gguf import convert
from harness.models.base import Options, Reply, Request
from harness.models.embedded import EmbeddedModel
from harness.readers import open_papers
from harness.readers.paper import Paper
from skills.annotate import mark
from skills.annotate.annotator import MarkAnnotator
from skills.annotate.calibration import Calibration
from skills.annotate.moves import load_framework
from skills.annotate.record import sentences_of

OPENING_WORDS = 25
NEAR_TIE = 0.01
"""Logits: what weights and cache in 16 bits may move."""


class Checkpoint:
    """A Hugging Face folder in transformers: its weights as f16 holds them, computed in float32."""

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.torch = torch
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float16).float().eval()
        vocabulary = self.tokenizer.get_vocab()
        self.mark_id = vocabulary.get(mark.MARK)
        self.labels = {number: text for text, number in vocabulary.items() if mark.label_moves(text) is not None}

    def greedy(self, prompt: str, tokens: int) -> tuple[list[int], list[float]]:
        """Up to ``tokens`` token ids, and at each the margin between the two highest logits."""
        inputs = self.tokenizer(prompt, return_tensors="pt", add_special_tokens=False)
        done = self.model.generate(
            **inputs, max_new_tokens=tokens, do_sample=False, return_dict_in_generate=True, output_logits=True
        )
        ids = done.sequences[0, inputs["input_ids"].shape[1] :].tolist()
        return ids, [margin(step[0]) for step in done.logits]

    def pieces(self, ids: list[int]) -> list[tuple[str, int]]:
        """The text of each token and its index; the bytes of one character are one piece, unseen tokens are left out."""
        found, start = [], 0
        for end in range(1, len(ids) + 1):
            text = self.tokenizer.decode(ids[start:end], skip_special_tokens=True)
            if not text.endswith("\ufffd"):
                found += [(text, start)] if text else []
                start = end
        return found

    def marks(self, title: str, sentences: list[str]) -> list[tuple[str, float, dict[str, float]]]:
        """For each sentence of one window: the likeliest token, its margin, and the probabilities of the labels."""
        text = mark.prompts(title, sentences)[-1]
        inputs = self.tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
        with self.torch.no_grad():
            logits = self.model(inputs).logits[0][inputs[0] == self.mark_id]
        numbers = list(self.labels)
        chances = self.torch.softmax(logits[:, numbers], dim=1).tolist()
        return [
            (self.tokenizer.decode([int(row.argmax())]), margin(row), dict(zip(self.labels.values(), chance, strict=True)))
            for row, chance in zip(logits, chances, strict=True)
        ]


def margin(logits: Any) -> float:
    """Between the two highest."""
    first, second = logits.topk(2).values.tolist()
    return float(first - second)


class Recording(EmbeddedModel):
    """An embedded model that keeps its reply to each prompt."""

    replies: dict[str | None, Reply]

    def generate(self, request: Request, **how: Any) -> Reply:
        """As the embedded model."""
        reply = super().generate(request, **how)
        self.replies[request.prompt] = reply
        return reply


@dataclass
class Tally:
    """How many of a kind are equal, and the checkpoint's margins where they are not."""

    equal: int = 0
    total: int = 0
    margins: list[float] = field(default_factory=list)

    def row(self, what: str) -> list[str]:
        """For the table."""
        largest = f"{max(self.margins):.4f}" if self.margins else ""
        return [what, f"{self.equal} of {self.total}", f"{self.equal / max(self.total, 1):.2%}", largest]

    @property
    def faults(self) -> int:
        """Differences that are no near-ties."""
        return sum(margin > NEAR_TIE for margin in self.margins)

    def result(self) -> dict[str, Any]:
        """For the JSON line."""
        margins = sorted((round(value, 5) for value in self.margins), reverse=True)
        return {"equal": self.equal, "total": self.total, "margins_at_differences": margins[:10]}


def compare_greedy(checkpoint: Checkpoint, model: EmbeddedModel, prompts: list[str], tokens: int) -> tuple[Tally, Tally]:
    """Continuations that are equal to the last token, and tokens that are equal before a first difference."""
    whole, single = Tally(), Tally()
    for prompt in prompts:
        ids, margins = checkpoint.greedy(prompt, tokens)
        due = checkpoint.pieces(ids)
        reply = model.generate(Request(prompt=prompt, options=Options(max_tokens=tokens, top_logprobs=1)))
        written = [entry.token for entry in reply.logprobs if entry.token]
        same = 0
        while same < min(len(due), len(written)) and due[same][0] == written[same]:
            same += 1
        whole.total, single.total, single.equal = whole.total + 1, single.total + len(due), single.equal + same
        if same == len(due) == len(written):
            whole.equal += 1
        else:
            whole.margins.append(margins[due[same][1] if same < len(due) else -1])
    return whole, single


def compare_marks(checkpoint: Checkpoint, model: Recording, papers: list[Paper]) -> tuple[Tally, float]:
    """Labels that are equal, and the largest difference of a label's probability."""
    annotator = MarkAnnotator(model, load_framework(), Calibration.load({}), Options())
    labels, widest = Tally(), 0.0
    for paper in papers:
        sentences = [sentence.text for sentence in sentences_of(paper)]
        model.replies = {}
        annotator.annotate(paper.title, sentences)
        windows = mark.windows(sentences)
        due = [row for a, b in windows for row in checkpoint.marks(paper.title, sentences[a:b])]
        prompts = [prompt for a, b in windows for prompt in mark.prompts(paper.title, sentences[a:b])]
        for (text, gap, chances), prompt in zip(due, prompts, strict=True):
            reply = model.replies[prompt]
            labels.total += 1
            labels.equal += text == reply.text
            if text != reply.text:
                labels.margins.append(gap)
            served = {token: math.exp(value) for token, value in reply.logprobs[0].top.items() if token in chances}
            whole = sum(served.values())
            widest = max(widest, *(abs(served.get(token, 0) / whole - chance) for token, chance in chances.items()))
    return labels, widest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hf", type=Path, default=ROOT / "registry/marginalia-base/mini", help="checkpoint folder")
    parser.add_argument("--gguf", type=Path, help="its GGUF; converted from the folder where none is given")
    parser.add_argument("--prompts", type=int, default=50)
    parser.add_argument("--tokens", type=int, default=48)
    args = parser.parse_args()

    need(args.hf / "config.json")
    source = open_papers(str(need(DATA / "papers/agentic_598.csv")), offline=True)
    papers = [paper for paper in islice(source.papers, args.prompts) if not paper.error]
    openings = [" ".join(paper.abstract.split()[:OPENING_WORDS]) for paper in papers]
    checkpoint = Checkpoint(args.hf)
    with tempfile.TemporaryDirectory() as folder:
        gguf = args.gguf or convert(args.hf, Path(folder) / "model.gguf", "f16")
        model = Recording(gguf, name=gguf.stem)
        model.replies = {}
        try:
            whole, single = compare_greedy(checkpoint, model, openings, args.tokens)
            marks = compare_marks(checkpoint, model, papers) if checkpoint.mark_id is not None else None
        finally:
            model.close()
    rows = [whole.row("greedy continuations"), single.row("tokens before a difference")]
    result = {
        "hf": f"{args.hf.parent.name}/{args.hf.name}",
        "gguf": gguf.name,
        "continuations": whole.result(),
        "tokens": single.result(),
    }
    faults = whole.faults
    if marks:
        labels, widest = marks
        rows += [labels.row("labels at marks"), ["largest difference of a label's probability", f"{widest:.5f}", "", ""]]
        result |= {"labels": labels.result(), "largest_probability_difference": round(widest, 6)}
        faults += labels.faults
    rows.append([f"differences above {NEAR_TIE} logits", str(faults), "", ""])
    title = f"GGUF in llama.cpp against transformers float32, {len(openings)} prompts of {args.tokens} tokens"
    report(title, ["", "equal", "share", "largest margin at a difference (logits)"], rows, {**result, "faults": faults})
    if faults:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
