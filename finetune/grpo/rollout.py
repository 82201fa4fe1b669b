"""Answers of the policy: prompts as their contract renders them, sampled in one batch with cached keys and values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from finetune.grpo.rewards import Asked
from finetune.sft import data as sft

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Answer:
    """One answer to the query at place ``of`` of a batch."""

    of: int
    ids: Ids
    """Its tokens; the end of the turn is the last of one that ended."""
    ended: bool
    text: str
    """Without the end of the turn."""


class Writer:
    """Asks a model of a tokenizer for answers."""

    def __init__(self, tokenizer: Any, most: int, temperature: float) -> None:
        self.tokenizer, self.most, self.temperature = tokenizer, most, temperature
        end = tokenizer.convert_tokens_to_ids(sft.END_OF_TURN)
        self.end = tokenizer.eos_token_id if end in (None, tokenizer.unk_token_id) else end

    def prompt(self, asked: Asked) -> Ids:
        """The tokens of the prompt."""
        return np.array(self.tokenizer(self.rendered(asked), add_special_tokens=False)["input_ids"], dtype=np.int64)

    def rendered(self, asked: Asked) -> str:
        """The prompt as text: a chat as the tokenizer's template renders it."""
        if isinstance(asked.prompt, str):
            return asked.prompt
        chat = list(asked.prompt)
        return str(self.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def answers(self, model: Any, prompts: Sequence[Ids], count: int, *, seed: int | None) -> list[Answer]:
        """``count`` answers to each prompt, those to one in a row: sampled with ``seed``, or the likeliest without.

        The device's dice are seeded here, so that a step's answers do not depend on the steps before it.
        """
        rows = [prompt for prompt in prompts for _ in range(count)]
        width = max(map(len, rows))
        ids = torch.full((len(rows), width), self.tokenizer.pad_token_id, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(rows):  # padding on the left: all answers begin at one column
            ids[row, width - len(prompt) :] = torch.from_numpy(prompt)
            mask[row, width - len(prompt) :] = 1
        how: dict[str, Any] = {"do_sample": False}
        if seed is not None:
            torch.manual_seed(seed)
            how = {"do_sample": True, "temperature": self.temperature, "top_k": 0, "top_p": 1.0}
        written = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            max_new_tokens=self.most,
            eos_token_id=self.end,
            pad_token_id=self.tokenizer.pad_token_id,
            use_cache=True,
            **how,
        )
        return [self._answer(row // count, found) for row, found in enumerate(written[:, width:].cpu().numpy())]

    def _answer(self, of: int, ids: Ids) -> Answer:
        ends = np.flatnonzero(ids == self.end)
        ended = len(ends) > 0
        kept = ids[: ends[0] + 1] if ended else ids
        text = self.tokenizer.decode(kept[:-1] if ended else kept, skip_special_tokens=False)
        return Answer(of, kept, ended, text)


def learned(prompt: Ids, answer: Answer) -> sft.Example:
    """Prompt and answer as an example of the trainer, whose every answer token is a target."""
    ids = np.concatenate([prompt, answer.ids])
    positions = np.arange(len(prompt) - 1, len(ids) - 1)
    return sft.Example("", ids, positions, answer.ids)
