"""The parity gate: whether GGUFs compute, tokenise and render what the merged checkpoint does in transformers.

    python -m finetune.parity finetune_output/merged finetune_output/nanda-annotator.gguf finetune_output/…-q4_K_M.gguf

Held-out prompts of the model's own contract go through both. Compared are the bytes of rendered prompts (the tokenizer's
chat template, the GGUF's in llama.cpp, Ollama's TEMPLATE), the token ids, and the distribution of the next token: at every
mark (``annotate/mark@1``) or along the checkpoint's own greedy continuation. The limits are ``configs/parity.yaml``; a GGUF
beyond them is held back.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from finetune.chat_templates import Chat, Template, choose, render
from finetune.llama_probe import Answer, Case, Next, probe
from finetune.quantise import OutType
from harness.arguments import guarded
from harness.config import ROOT
from harness.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from finetune.reference import Reference

LIMITS = Path(__file__).parent / "configs" / "parity.yaml"
SAMPLE = ROOT / "data" / "sample_papers.csv"
"""Invented abstracts; the prompts where no held-out papers are given."""
TOP = 256
"""Likeliest tokens that are compared one by one, all others as one more. That bounds the KL divergence from below."""


@dataclass(frozen=True)
class Limits:
    """What a file type may differ by; see ``configs/parity.yaml``."""

    top1: float
    greedy: float
    kl: float


@dataclass(frozen=True)
class Prompts:
    """What is asked: chats (for chat contracts) or raw texts, one of the two."""

    contract: str
    chats: tuple[Chat, ...] = ()
    texts: tuple[str, ...] = ()
    at_marks: bool = False
    """Compare at the mark tokens of the texts instead of along a continuation."""


@dataclass
class Agreement:
    """How one GGUF compares with the checkpoint."""

    positions: int
    """Positions that are no near-ties."""
    near_ties: int
    top1: float
    greedy: float
    kl: float
    """Mean over all positions, in nats."""
    largest_margin: float
    """The checkpoint's surest choice, in logits, that the GGUF did not share; 0 where there is none."""
    wrong_tokens: list[str] = field(default_factory=list)
    """Prompts that llama.cpp cuts into other tokens, or renders otherwise."""
    failures: list[str] = field(default_factory=list)


def load_limits(path: Path = LIMITS) -> tuple[float, dict[str, Limits]]:
    """The near-tie margin and the limits of each file type. Raises InputError."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        return float(data["near_tie"]), {name: Limits(**values) for name, values in data["types"].items()}
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: cannot be read as parity limits ({error})", "correct it") from None


def make_prompts(contract: str, papers: Path = SAMPLE, count: int = 8) -> Prompts:
    """Prompts of a contract from the first ``count`` papers of a file; an empty contract gives openings of abstracts."""
    from itertools import islice

    from harness.readers import open_papers
    from skills.annotate import mark, prompt
    from skills.annotate.moves import load_framework
    from skills.annotate.record import sentences_of
    from skills.ask import prompt as ask_prompt
    from skills.expand import prompt as expand_prompt

    usable = (paper for paper in open_papers(str(papers), offline=True).papers if not paper.error)
    chosen = [(paper.title, [s.text for s in sentences_of(paper)]) for paper in islice(usable, count)]
    if not chosen:
        raise InputError(f"{papers}: has no papers to compare on", "give a file with titles and abstracts")
    if contract == mark.CONTRACT:
        texts = (mark.prompts(title, lines[slice(*mark.windows(lines)[0])])[-1] for title, lines in chosen)
        return Prompts(contract, texts=tuple(texts), at_marks=True)
    if not contract:
        return Prompts(contract, texts=tuple(" ".join(" ".join(lines).split()[:40]) for _, lines in chosen))
    if contract == expand_prompt.CONTRACT:
        queries = (expand_prompt.parse_query(title or " ".join(lines)[:100]) for title, lines in chosen)
        return Prompts(contract, texts=tuple(map(expand_prompt.render_prompt, queries)))
    if contract == ask_prompt.CONTRACT:
        return Prompts(contract, chats=_questions(chosen))
    if contract not in {prompt.QUOTE, prompt.PROSE}:
        known = ", ".join((mark.CONTRACT, prompt.QUOTE, prompt.PROSE, expand_prompt.CONTRACT, ask_prompt.CONTRACT))
        raise InputError(f"{contract}: no prompts are known for this contract", f"use one of {known}")
    framework, prose = load_framework(), contract == prompt.PROSE
    chats = tuple(
        tuple({"role": m.role, "content": m.content} for m in prompt.messages(framework, title, lines, prose=prose))
        for title, lines in chosen
    )
    return Prompts(contract, chats=chats)


def _questions(papers: Sequence[tuple[str, Sequence[str]]]) -> tuple[Chat, ...]:
    """A chat of contract ask@1 for each paper: a question about it over its abstract and the one before."""
    from skills.ask import prompt
    from skills.ask.record import Passage

    chats = []
    for number, (title, _) in enumerate(papers):
        near = (papers[number], papers[number - 1])
        passages = [Passage(n, "", name, 0, "", name, " ".join(lines), (), 0.0) for n, (name, lines) in enumerate(near, 1)]
        asked = prompt.messages(f"What was found in {title!r}?", passages)
        chats.append(tuple({"role": one.role, "content": one.content} for one in asked))
    return tuple(chats)


@dataclass(frozen=True)
class Asked:
    """The prompts as the checkpoint sees them, and what it answers."""

    texts: tuple[str, ...]
    """As sent to llama.cpp: without a begin token that llama.cpp puts there itself."""
    tokens: tuple[tuple[int, ...], ...]
    cases: tuple[Case, ...]
    logprobs: tuple[NDArray[np.float32], ...]
    """For each case ``[positions, vocabulary]``."""
    template: Template | None


def ask(reference: Reference, prompts: Prompts, length: int = 24) -> Asked:
    """Run the checkpoint over the prompts; chats and raw texts go on for ``length`` tokens. Raises InputError."""
    template, texts = None, prompts.texts
    if prompts.chats:
        template = choose(lambda chat: reference.sent(reference.render(chat)), prompts.chats)
        texts = tuple(reference.sent(reference.render(chat)) for chat in prompts.chats)
    tokens = tuple(tuple(reference.tokens(text)) for text in texts)
    cases, logprobs = [], []
    for text, ids in zip(texts, tokens, strict=True):
        if prompts.at_marks:
            positions = reference.marks(ids)
            if not positions:
                raise InputError(f"the tokenizer has no mark token, or cuts it: {text[-40:]!r}", "convert the right model")
            cases.append(Case(ids, positions))
        else:
            whole = reference.continued(ids, length)
            cases.append(Case(whole, tuple(range(len(ids) - 1, len(whole) - 1))))
        logprobs.append(reference.logprobs(cases[-1]))
    return Asked(texts, tokens, tuple(cases), tuple(logprobs), template)


def divergence(reference: NDArray[np.float32], other: Next) -> float:
    """KL(reference ‖ other) in nats over the tokens that ``other`` names and one token for all the rest."""
    import numpy as np

    p = np.exp(reference[list(other.ids)].astype(np.float64))
    q = np.exp(np.array(other.logprobs, np.float64))
    p, q = (np.append(part, max(1 - part.sum(), 1e-9)) for part in (p, q))
    p, q = p / p.sum(), q / q.sum()
    return float(np.sum(np.where(p > 0, p * (np.log(np.maximum(p, 1e-30)) - np.log(np.maximum(q, 1e-30))), 0)))


def compare(asked: Asked, answer: Answer, near_tie: float) -> Agreement:
    """How llama.cpp's answer compares with the checkpoint's."""
    import numpy as np

    divergences, margins, alike, same = [], [0.0], [], 0
    ties = 0
    for rows, found in zip(asked.logprobs, answer.cases, strict=True):
        whole = True
        for row, other in zip(rows, found, strict=True):
            divergences.append(divergence(row, other))
            first, second = np.sort(row)[-1:-3:-1]
            agrees = int(row.argmax()) == other.ids[0]
            if not agrees:
                margins.append(float(first - second))
            if first - second < near_tie:
                ties += 1
            else:
                alike.append(agrees)
                whole &= agrees
        same += whole
    wrong = [
        text[:60]
        for text, ids, found in zip(asked.texts, asked.tokens, answer.tokens, strict=True)
        if tuple(found) != tuple(ids)
    ]
    return Agreement(
        positions=len(alike),
        near_ties=ties,
        top1=float(np.mean(alike)) if alike else 1.0,
        greedy=same / len(asked.cases),
        kl=float(np.mean(divergences)),
        largest_margin=max(margins),
        wrong_tokens=wrong,
    )


def judge(agreement: Agreement, limits: Limits) -> list[str]:
    """What keeps a GGUF back, one line each."""
    found = [f"other tokens or bytes for the prompt that begins {text!r}" for text in agreement.wrong_tokens]
    for name, least in (("top1", limits.top1), ("greedy", limits.greedy)):
        if (value := getattr(agreement, name)) < least:
            found.append(f"{name} agreement is {value:.4f}, at least {least} is asked for")
    if not agreement.kl <= limits.kl:  # a NaN fails as well
        found.append(f"mean KL divergence is {agreement.kl:.5f}, at most {limits.kl} is allowed")
    return found


def gate(
    merged: Path,
    ggufs: Mapping[OutType, Path],
    prompts: Prompts,
    *,
    threads: int = 1,
    limits: Path = LIMITS,
) -> tuple[dict[str, Any], Template | None]:
    """Compare every GGUF with the checkpoint: the report, and Ollama's template for chat contracts.

    The report's ``passed`` is what lets a model into the registry; nothing is raised for a mere difference. Raises
    InputError, ModelError where something cannot be compared at all.
    """
    from finetune.reference import Reference

    near_tie, allowed = load_limits(limits)
    asked = ask(reference := Reference(merged), prompts)
    report: dict[str, Any] = {"contract": prompts.contract, "near_tie": near_tie, "prompts": len(asked.texts)}
    report["template"] = asked.template.name if asked.template else ""
    types: dict[str, Any] = {}
    for outtype, path in ggufs.items():
        answer = probe(
            path,
            texts=asked.texts,
            chats=prompts.chats,
            cases=asked.cases,
            top=min(TOP, reference.vocabulary),
            threads=threads,
        )
        agreement = compare(asked, answer, near_tie)
        for text, rendered in zip(asked.texts, answer.rendered, strict=False):
            if reference.sent(rendered) != text:
                agreement.wrong_tokens.append(rendered[:60])
        agreement.failures = judge(agreement, allowed[outtype])
        types[outtype] = {**asdict(agreement), "limits": asdict(allowed[outtype])}
    if asked.template:  # chosen because it does; a change of one of the two must not pass unseen
        written = tuple(render(asked.template.go, chat) for chat in prompts.chats)
        report["template_equal"] = written == asked.texts
    report["types"] = types
    report["passed"] = not any(found["failures"] for found in types.values()) and report.get("template_equal", True)
    return report, asked.template


def require(report: Mapping[str, Any]) -> None:
    """Raise InputError with everything that keeps the GGUFs back; return where nothing does."""
    lines = [f"{name}: {line}" for name, found in report["types"].items() for line in found["failures"]]
    if not report["passed"]:
        raise InputError(f"parity gate: {'; '.join(lines) or 'the rendered prompts differ'}", "nothing was registered")


def table(report: Mapping[str, Any]) -> str:
    """The report for people."""
    head = f"{'type':8}{'positions':>10}{'top-1':>9}{'greedy':>9}{'KL':>11}{'margin':>9}"
    lines = [
        f"{name:8}{found['positions']:>10}{found['top1']:>9.4f}{found['greedy']:>9.3f}{found['kl']:>11.6f}"
        f"{found['largest_margin']:>9.3f}  {'; '.join(found['failures']) or 'ok'}"
        for name, found in report["types"].items()
    ]
    return "\n".join([head, *lines])


def outtype_of(gguf: Path) -> OutType:
    """The file type that a GGUF says it is. Raises InputError."""
    import gguf as package

    from finetune.quantise import as_outtype

    try:
        number = int(package.GGUFReader(gguf).fields["general.file_type"].contents())
        return as_outtype(package.LlamaFileType(number).name.removeprefix("MOSTLY_").removeprefix("ALL_"))
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise InputError(f"{gguf}: cannot be read as a GGUF model ({error})", "convert the model again") from None


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Exit 0 when every GGUF passes, else 1 or the error's own code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("merged", type=Path, help="Hugging Face folder")
    parser.add_argument("ggufs", type=Path, nargs="+")
    parser.add_argument("--contract", default=None, help="such as annotate/quote@1; found by itself for annotate/mark@1")
    parser.add_argument("--papers", type=Path, default=SAMPLE, help="held-out papers to make prompts of")
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    args = parser.parse_args(argv)
    from skills.annotate import mark

    found = mark.CONTRACT if (args.merged / "labels.json").is_file() else ""
    prompts = make_prompts(found if args.contract is None else args.contract, args.papers, args.count)
    ggufs = {outtype_of(path): path for path in args.ggufs}
    report, _ = gate(args.merged, ggufs, prompts, threads=args.threads)
    print(json.dumps(report) if args.json else table(report))
    require(report)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
