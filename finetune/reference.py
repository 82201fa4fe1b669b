"""The checkpoint in transformers: what a GGUF is measured against."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from finetune.chat_templates import Chat
from finetune.hf_checkpoint import read_json, read_tensors
from finetune.llama_probe import Case
from harness.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def _fits_in_float32(folder: Path) -> bool:
    """Whether the weights take at most half of the machine's memory in float32; where memory is unknown, up to 8 GB."""
    import math

    needed = 4 * sum(math.prod(tensor.shape) for tensor in read_tensors(folder).values())
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        memory = 16 << 30
    return needed <= memory / 2


class Reference:
    """A Hugging Face folder, in float32 where memory allows, else as it is stored."""

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        self._torch = torch
        read_json(folder / "config.json")
        dtype: Any = torch.float32 if _fits_in_float32(folder) else "auto"
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder)
            self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{folder}: transformers cannot load it ({error})", "merge the adapter again") from None

    @property
    def vocabulary(self) -> int:
        """Tokens, unused ones included."""
        return int(self._model.config.vocab_size)

    def render(self, chat: Chat) -> str:
        """A chat as the tokenizer's template writes it, up to where the reply begins. Raises InputError without one."""
        if self._tokenizer.chat_template is None:
            raise InputError("the tokenizer has no chat template", "train on an instruct model, or for annotate/mark@1")
        text = self._tokenizer.apply_chat_template(
            [dict(turn) for turn in chat], tokenize=False, add_generation_prompt=True
        )
        return str(text)

    def sent(self, rendered: str) -> str:
        """A rendered prompt without a begin token that tokenising puts there anyway."""
        begin = self._tokenizer.bos_token
        adds = begin and self._tokenizer("a")["input_ids"][0] == self._tokenizer.bos_token_id
        return rendered.removeprefix(begin) if adds else rendered

    def tokens(self, text: str) -> list[int]:
        """Token ids of a prompt as it is sent."""
        return [int(number) for number in self._tokenizer(text)["input_ids"]]

    def marks(self, ids: Sequence[int]) -> tuple[int, ...]:
        """Positions of mark tokens."""
        from skills.annotate import mark

        number = self._tokenizer.get_vocab().get(mark.MARK)
        return tuple(position for position, token in enumerate(ids) if token == number)

    def continued(self, ids: Sequence[int], length: int) -> tuple[int, ...]:
        """The ids and what the model greedily writes after them, at least one token, up to an end token."""
        torch = self._torch
        inputs = torch.tensor([list(ids)])
        with torch.no_grad():
            done = self._model.generate(
                input_ids=inputs,
                attention_mask=torch.ones_like(inputs),
                max_new_tokens=length,
                do_sample=False,
                pad_token_id=self._tokenizer.pad_token_id or 0,
            )
        return tuple(int(number) for number in done[0])

    def logprobs(self, case: Case) -> NDArray[np.float32]:
        """Log-probabilities of the next token after each position, ``[positions, vocabulary]``."""
        torch = self._torch
        with torch.no_grad():
            states = self._model.model(input_ids=torch.tensor([list(case.ids)])).last_hidden_state[0, list(case.positions)]
            logits = self._model.lm_head(states).float()
        values: NDArray[np.float32] = torch.log_softmax(logits, dim=-1).numpy()
        return values
