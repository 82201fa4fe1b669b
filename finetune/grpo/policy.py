"""The model that learns and the one that it is held to, and the log-probabilities that both give to answers."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Sequence
from typing import Any

import torch

from finetune.grpo.config import GrpoConfig
from finetune.sft import model as models
from finetune.sft.base import Base
from finetune.sft.batches import collate
from finetune.sft.data import Example


class Policy:
    """A model with what is trained of it. Its reference is its own state at the beginning: an adapter switched off, or a
    copy where all weights are trained."""

    def __init__(self, base: Base, tokenizer: Any, config: GrpoConfig) -> None:
        self.device = models.choose_device(config.loading)
        self.model = models.build(base, tokenizer, None, config.loading, self.device)
        self.pad = tokenizer.pad_token_id
        self.frozen: Any = None
        if config.tuning == "full":
            self.frozen = copy.deepcopy(self.model).requires_grad_(False).eval()
            self._frozen_positions = models.TrainedPositions(self.frozen)
        self._positions = models.TrainedPositions(self.model)
        self.model.eval()  # no dropout: the policy that wrote the answers is the one that learns from them

    @property
    def trained(self) -> dict[str, Any]:
        """Parameters that learn, by name."""
        return {name: value for name, value in self.model.named_parameters() if value.requires_grad}

    def precision(self) -> Any:
        """The context to compute in."""
        if self.device.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.kind, self.device.dtype)

    def logp(self, examples: Sequence[Example]) -> tuple[Any, Any]:
        """Log-probabilities of all targets in a row, and how many each example has."""
        batch = collate(examples, self.pad)
        return self._logp(self.model, self._positions, batch), torch.tensor([len(e.targets) for e in examples])

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def reference(self, examples: Sequence[Example]) -> Any:
        """The same of the reference."""
        batch = collate(examples, self.pad)
        if self.frozen is not None:
            return self._logp(self.frozen, self._frozen_positions, batch)
        with self.model.disable_adapter():
            return self._logp(self.model, self._positions, batch)

    def _logp(self, model: Any, positions: models.TrainedPositions, batch: dict[str, Any]) -> Any:
        where = next(model.parameters()).device
        positions.where = batch["where"].to(where)
        try:
            with self.precision():
                logits = model(input_ids=batch["input_ids"].to(where), use_cache=False).logits[0]
        finally:
            positions.where = None
        targets = batch["targets"].to(where)
        return torch.log_softmax(logits.float(), -1).gather(-1, targets[:, None])[:, 0]
