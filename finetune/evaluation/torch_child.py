"""The process that runs a model folder with transformers: ``python -m finetune.evaluation.torch_child PARENT_PID``.

One JSON object a line: first ``{"folder", "threads"}``, answered by ``{"ready": true}`` or ``{"error", "remedy"}``; then
any number of ``{"op": "generate" | "count", …}``, each answered by its result or ``{"error", "type", "remedy"}``. It
never looks for anything on the network, and ends when its stdin does.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from finetune.sft.preflight import quiet

os.environ["HF_HUB_OFFLINE"] = "1"  # a model is never fetched by guess
quiet()


class Refused(Exception):
    """What cannot be done, with its remedy."""

    def __init__(self, message: str, remedy: str = "", *, kind: str = "model") -> None:
        super().__init__(message)
        self.record = {"error": message, "remedy": remedy, "type": kind}


def base_of(folder: Path) -> Path:
    """The folder of an adapter's base. Raises Refused where it is not on this machine."""
    from finetune.sft.base import find
    from harness.errors import InputError

    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    named = str(config.get("base_model_name_or_path") or "")
    try:
        base = find(named).folder
    except InputError:
        base = None
    if base is None:
        raise Refused(
            f"its base {named or '(none named)'} is not on this machine",
            "set base_model_name_or_path in adapter_config.json to the base's folder",
        )
    return base


def load(folder: Path) -> tuple[Any, Any]:
    """Model and tokenizer of a folder; an adapter comes on its base, not merged. Raises Refused."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    adapter = (folder / "adapter_config.json").is_file()
    base = base_of(folder) if adapter else folder
    own = adapter and (folder / "tokenizer_config.json").is_file()
    tokenizer = AutoTokenizer.from_pretrained(folder if own else base)
    cuda = torch.cuda.is_available()
    options: dict[str, Any] = {"dtype": torch.bfloat16, "device_map": "auto"} if cuda else {"dtype": torch.float32}
    model = AutoModelForCausalLM.from_pretrained(base, **options)
    if adapter:
        from peft import PeftModel

        if len(tokenizer) > model.get_input_embeddings().weight.shape[0]:
            model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        model = PeftModel.from_pretrained(model, folder)
    model.eval()
    return model, tokenizer


class Runtime:
    """A loaded model that answers requests one after another."""

    def __init__(self, folder: Path) -> None:
        self.model, self.tokenizer = load(folder)
        self.context = int(getattr(self.model.config, "max_position_embeddings", 0) or 0)
        self._ids: list[int] = []
        self._states: Any = None
        """Last hidden states of ``_ids``: a prompt that begins like the last one needs no second pass."""

    def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        """The result of one request. Raises Refused."""
        if message["op"] == "count":
            return {"tokens": len(self._encode(message["text"]))}
        if message["op"] == "score":
            return self._score(self._encode(self._rendered(message["messages"]) + message["before"]), message["text"])
        started = time.perf_counter()
        prompt = message["prompt"]
        ids = self._encode(self._rendered(message["messages"]) if prompt is None else prompt)
        most = int(message["max_tokens"])
        if self.context and len(ids) + most > self.context:
            raise Refused(
                f"{len(ids)} tokens and {most} more do not fit into its context of {self.context}", kind="context"
            )
        one = most == 1
        found = self._next(ids, int(message["top_logprobs"])) if one else self._write(ids, most, message["stop"])
        return {"prompt_tokens": len(ids), **found, "seconds": time.perf_counter() - started}

    def _hidden(self, ids: list[int]) -> Any:
        """``[tokens, hidden]``: what enters the output layer."""
        import torch

        rows = torch.tensor([ids], device=self.model.device)
        output = self.model(input_ids=rows, use_cache=False, output_hidden_states=True, logits_to_keep=1)
        return output.hidden_states[-1][0]

    def _encode(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _rendered(self, messages: Sequence[dict[str, str]]) -> str:
        """The chat as training renders it, without thoughts."""
        from finetune.sft.data import CHATML

        if not self.tokenizer.chat_template:
            if "<|im_start|>" not in self.tokenizer.get_vocab():
                raise Refused("its tokenizer has no chat template", "take an instruct model, or give --contract")
            self.tokenizer.chat_template = CHATML
        options = {"tokenize": False, "add_generation_prompt": True, "enable_thinking": False}
        return str(self.tokenizer.apply_chat_template(messages, **options))

    def _next(self, ids: list[int], alternatives: int) -> dict[str, Any]:
        """The likeliest next token with log-probabilities. Prompts of one paper begin alike, the longest comes first, so
        one pass serves them all; only the output layer is computed anew."""
        import torch

        with torch.inference_mode():
            if self._states is None or self._ids[: len(ids)] != ids:
                self._ids, self._states = ids, self._hidden(ids)
            head = self.model.get_output_embeddings()
            logits = head(self._states[len(ids) - 1]).float()
            logprobs = torch.log_softmax(logits, -1)
            values, tokens = logprobs.topk(min(max(1, alternatives), len(logprobs)))
        texts = [self.tokenizer.decode([token]) for token in tokens.tolist()]
        top = dict(zip(texts, values.tolist(), strict=True))
        entry = [texts[0], values[0].item(), top]
        return {"text": texts[0], "finish": "length", "completion_tokens": 1, "logprobs": [entry] if alternatives else []}

    def _score(self, before: list[int], text: str) -> dict[str, Any]:
        """The surprise of a text behind some tokens, in nats, and how many tokens it has."""
        import torch

        ids = self._encode(text)
        if self.context and len(before) + len(ids) > self.context:
            raise Refused(f"{len(before) + len(ids)} tokens do not fit into its context of {self.context}", kind="context")
        with torch.inference_mode():
            rows = torch.tensor([before + ids], device=self.model.device)
            logits = self.model(input_ids=rows, use_cache=False, logits_to_keep=len(ids) + 1).logits[0, :-1].float()
            found = torch.log_softmax(logits, -1).gather(-1, rows[0, len(before) :, None])
        return {"nats": -float(found.sum()), "tokens": len(ids)}

    def _ends(self) -> list[int]:
        """The tokens that end a turn."""
        known = self.tokenizer.get_vocab()
        named = [known.get("<|im_end|>"), self.tokenizer.eos_token_id, self.model.config.eos_token_id]
        return list(dict.fromkeys(n for n in named if isinstance(n, int))) or [0]

    def _write(self, ids: list[int], most: int, stop: Sequence[str]) -> dict[str, Any]:
        """Greedy text up to a stop string, the end of the turn or ``most`` tokens."""
        import torch

        rows = torch.tensor([ids], device=self.model.device)
        options: dict[str, Any] = {"stop_strings": list(stop), "tokenizer": self.tokenizer} if stop else {}
        with torch.inference_mode():
            output = self.model.generate(
                input_ids=rows,
                attention_mask=torch.ones_like(rows),
                max_new_tokens=most,
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                eos_token_id=self._ends(),
                pad_token_id=self._ends()[0],
                **options,
            )
        written = output[0, len(ids) :].tolist()
        text = self.tokenizer.decode(written, skip_special_tokens=True)
        ends = [text.index(mark) for mark in stop if mark in text]
        finish = "stop" if ends or len(written) < most else "length"
        return {
            "text": text[: min(ends)] if ends else text,
            "finish": finish,
            "completion_tokens": len(written),
            "logprobs": [],
        }


def serve(parent: int) -> None:
    """Answer until stdin ends."""
    from harness.models.embedded_child import Pipe, tie_to

    tie_to(parent)
    pipe = Pipe()
    first = json.loads(sys.stdin.readline() or "{}")
    try:
        import torch

        if first.get("threads"):
            torch.set_num_threads(int(first["threads"]))
        runtime = Runtime(Path(first["folder"]))
    except Refused as error:
        pipe.send(error.record)
        return
    except ImportError as error:
        pipe.send({"error": f"{error}", "remedy": "pip install 'marginalia[finetune]'"})
        return
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        pipe.send({"error": f"cannot be loaded ({' '.join(str(error).split())[:300]})", "remedy": "write the folder again"})
        return
    pipe.send({"ready": True})
    for line in sys.stdin:
        try:
            pipe.send(runtime.answer(json.loads(line)))
        except Refused as error:
            pipe.send(error.record)
        except RuntimeError as error:  # out of memory, most often
            pipe.send({"error": " ".join(str(error).split())[:300], "type": "model"})


if __name__ == "__main__":
    serve(int(sys.argv[1]))
