"""The model of contract ``annotate/mark@1`` as it is trained: a causal decoder and vectors for its label tokens.

Label tokens share eight move vectors (their sum plus a part of their own), so that a rare set is learnt from its common
parts. Saving writes the sums into the embeddings: what is shipped is an ordinary Hugging Face model.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from finetune.mark_data import ROLES, Encoder, Example, Labels, pad
from skills.annotate import mark


class Marker:
    """The model with its label vectors: trains, predicts, and saves itself as an ordinary Hugging Face model."""

    def __init__(self, base: Path, labels: Labels, seed: int) -> None:
        from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

        torch.manual_seed(seed)
        self.labels = labels
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(base)
        self.model = Qwen3ForCausalLM.from_pretrained(base, dtype=torch.float32)
        self.tokenizer.add_tokens([mark.MARK], special_tokens=True)
        self.tokenizer.add_tokens(labels.tokens, special_tokens=False)
        self.model.resize_token_embeddings(len(self.tokenizer), mean_resizing=False)
        width = self.model.config.hidden_size
        embeddings = self.model.get_input_embeddings().weight
        self.mark_id = self.plain_size = self.tokenizer.convert_tokens_to_ids(mark.MARK)
        if len(self.tokenizer) != self.mark_id + 1 + len(labels.sets):
            raise SystemExit(f"{base}: has marks or labels of another run: give a base model")
        with torch.no_grad():
            embeddings[self.mark_id] = embeddings[: self.plain_size].mean(0)
            embeddings[self.mark_id + 1 :] = 0
        self.move_vectors = torch.nn.Parameter(0.02 * torch.randn(len(labels.moves), width))
        self.own_vectors = torch.nn.Parameter(torch.zeros(len(labels.sets), width))
        self.role_vectors = torch.nn.Parameter(0.02 * torch.randn(len(ROLES), width))
        self.matrix = torch.from_numpy(labels.matrix)
        self.encoder = Encoder(self.tokenizer, labels)

    def hidden(self, rows: Any, examples: Sequence[Example]) -> Any:
        """Last hidden states at all marks of a padded batch, ``[marks, hidden]``."""
        states = self.model.model(input_ids=rows, use_cache=False).last_hidden_state
        row = np.concatenate([np.full(len(example.marks), i) for i, example in enumerate(examples)])
        column = np.concatenate([example.marks for example in examples])
        return states[torch.from_numpy(row), torch.from_numpy(column.astype(np.int64))].float()

    def label_weights(self) -> Any:
        """The output vector of each label token, ``[labels, hidden]``."""
        return self.matrix @ self.move_vectors + self.own_vectors

    def logits(self, hidden: Any) -> Any:
        """Over the plain vocabulary (it must learn to say nothing else here) and the labels."""
        plain = self.model.get_input_embeddings().weight[: self.plain_size + 1]
        return torch.cat([hidden @ plain.T, hidden @ self.label_weights().T], dim=1)

    def predict(self, examples: Sequence[Example], papers: int = 16, *, bf16: bool = True) -> list[NDArray[np.float32]]:
        """For each example the distribution over labels at each of its marks.

        ``bf16`` is faster where the processor has it, and about one hundredth off what is served.
        """
        order = sorted(range(len(examples)), key=lambda index: len(examples[index].ids))
        result: list[NDArray[np.float32]] = [np.empty(0, np.float32)] * len(examples)
        self.model.eval()
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            for start in range(0, len(order), papers):
                chosen = [examples[i] for i in order[start : start + papers]]
                hidden = self.hidden(torch.from_numpy(pad(chosen)), chosen)
                with torch.autocast("cpu", enabled=False):
                    probabilities = torch.softmax(hidden @ self.label_weights().T, dim=1).numpy()
                edges = np.cumsum([len(example.marks) for example in chosen])[:-1]
                for index, part in zip(order[start : start + papers], np.split(probabilities, edges), strict=True):
                    result[index] = part
        self.model.train()
        return result

    def save(self, folder: Path) -> None:
        """Write the label vectors into the embedding rows and save model, tokenizer and labels."""
        with torch.no_grad():
            self.model.get_input_embeddings().weight[self.mark_id + 1 :] = self.label_weights()
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        (folder / "labels.json").write_text(json.dumps({"moves": self.labels.moves, "sets": self.labels.sets}))

    @property
    def parameters(self) -> list[tuple[str, Any]]:
        """All that is trained, as (name, parameter) pairs in a fixed order."""
        extra = [("move_vectors", self.move_vectors), ("own_vectors", self.own_vectors), ("roles", self.role_vectors)]
        return [*self.model.named_parameters(), *extra]


def start_marker(base: Path, labels: Labels, seed: int) -> Marker:
    """What a run starts from: a plain base with new label vectors, or an earlier run's marker with its own labels."""
    if not (base / "labels.json").exists():
        return Marker(base, labels, seed)
    marker = load_marker(base)
    if marker.labels.moves != labels.moves:
        raise SystemExit(f"{base}: has labels of other moves: give a base model, or an annotator of the same framework")
    return marker


def load_marker(folder: Path) -> Marker:
    """A marker that ``Marker.save`` wrote, to predict or train on (its label vectors are sums no longer)."""
    from safetensors.torch import load_file

    data = json.loads((folder / "labels.json").read_text())
    labels = Labels(tuple(data["moves"]), tuple(tuple(stated) for stated in data["sets"]))
    marker = Marker(folder, labels, 0)
    saved = load_file(folder / "model.safetensors")["model.embed_tokens.weight"]
    with torch.no_grad():
        marker.model.get_input_embeddings().weight.copy_(saved)  # __init__ has reset the rows of mark and labels
        marker.move_vectors.zero_()
        marker.own_vectors.copy_(saved[marker.mark_id + 1 :])
    return marker
