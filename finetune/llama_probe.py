"""What llama.cpp makes of texts, chats and token ids, for the parity gate: the embedded runtime in a child process.

``probe`` starts ``python -m finetune.llama_probe``, which reads one job as JSON from stdin and writes the answer as JSON.
The embedded backend itself cannot be asked: it speaks of texts, and parity is a matter of token ids.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import ModelError
from harness.models.embedded_process import child_environment, error_line

TIMEOUT = 3600.0
"""Seconds."""


@dataclass(frozen=True)
class Case:
    """A text as token ids, and the positions after which the next token's distribution is compared."""

    ids: tuple[int, ...]
    positions: tuple[int, ...]


@dataclass(frozen=True)
class Next:
    """The likeliest next tokens at one position, best first."""

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    """Natural logarithms over the whole vocabulary."""


@dataclass(frozen=True)
class Answer:
    """What a GGUF gave for a job."""

    tokens: tuple[tuple[int, ...], ...]
    rendered: tuple[str, ...]
    cases: tuple[tuple[Next, ...], ...]


def probe(
    gguf: Path,
    *,
    texts: Sequence[str] = (),
    chats: Sequence[Sequence[Mapping[str, str]]] = (),
    cases: Sequence[Case] = (),
    top: int = 256,
    threads: int = 1,
) -> Answer:
    """Token ids of the texts (special tokens in them counted as such), the chats as the GGUF's own template renders
    them, and for each case the ``top`` likeliest next tokens after each position. Raises ModelError.
    """
    longest = max((len(case.ids) for case in cases), default=0)
    job = {
        "path": str(gguf.absolute()),
        "context": max(256, longest + 16),
        "threads": threads,
        "texts": list(texts),
        "chats": [list(chat) for chat in chats],
        "cases": [[list(case.ids), list(case.positions)] for case in cases],
        "top": top,
    }
    done = subprocess.run(
        [sys.executable, "-P", "-m", "finetune.llama_probe"],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=child_environment(),
        timeout=TIMEOUT,
        check=False,
    )
    if done.returncode:
        why = error_line(done.stderr) or (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise ModelError(f"{gguf}: llama.cpp cannot compute it ({why})", "convert the model again")
    data = json.loads(done.stdout)
    return Answer(
        tuple(tuple(ids) for ids in data["tokens"]),
        tuple(data["rendered"]),
        tuple(tuple(Next(tuple(ids), tuple(logprobs)) for ids, logprobs in case) for case in data["cases"]),
    )


def _run(job: Mapping[str, Any]) -> dict[str, Any]:
    """The child's work."""
    from harness.models.embedded_child import Runtime

    runtime = Runtime(job["path"], job["context"], 1, job["threads"], embedding=False)

    def tokens(text: str) -> Any:
        return runtime.post("/tokenize", {"content": text, "add_special": True, "parse_special": True})["tokens"]

    plain = tokens("a")[-1]

    def following(ids: list[int]) -> tuple[list[int], list[float]]:
        # The probabilities are those before biases. One token must be written, and it is made a plain letter: of an end
        # token, or of a byte of a longer character, the server would give no probabilities.
        forced = {"n_predict": 1, "temperature": 0, "logit_bias": [[plain, 1000.0]]}
        reply = runtime.post("/completion", {"prompt": ids, "n_probs": job["top"], "cache_prompt": True, **forced})
        found = reply["completion_probabilities"][0]["top_logprobs"]
        return [token["id"] for token in found], [token["logprob"] for token in found]

    return {
        "tokens": [tokens(text) for text in job["texts"]],
        "rendered": [runtime.post("/apply-template", {"messages": chat})["prompt"] for chat in job["chats"]],
        "cases": [[following(ids[: position + 1]) for position in positions] for ids, positions in job["cases"]],
    }


def main() -> None:
    """Run as the module's documentation says."""
    import os

    from harness.models.embedded_child import Pipe, tie_to

    pipe = Pipe()
    tie_to(os.getppid())
    pipe.send(_run(json.load(sys.stdin)))
    os._exit(0)  # native threads may still compute; their clean-up is the operating system's


if __name__ == "__main__":
    main()
