"""Folders of training run by transformers for finetune/eval.py, and the memory that a model takes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from eval_samples import PAPERS, gold_row

from finetune.evaluation.memory import descendants, peak_resident
from finetune.evaluation.models import contract_of, kind_of, serving_of
from harness.config import ROOT
from harness.errors import ModelError
from harness.models.base import Message, Options, Request
from skills.annotate.moves import load_framework

MOVES = load_framework()
BASE = ROOT / "registry" / "marginalia-base" / "mini"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder and a data folder of its own, and no daemon."""
    monkeypatch.setenv("MARGINALIA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run_says_which_contract_and_thresholds_its_model_has(place: Path) -> None:
    adapter = place / "run" / "adapter"
    adapter.mkdir(parents=True)
    (adapter / "adapter_config.json").write_text("{}")
    (place / "run" / "train.json").write_text(json.dumps({"contract": "annotate/quote@1"}))
    assert kind_of(adapter) == "adapter"
    assert contract_of(adapter) == "annotate/quote@1"
    assert serving_of(adapter) == {}
    (place / "run" / "labels.json").write_text("{}")
    (place / "run" / "valid.json").write_text(json.dumps({"macro_f1": 0.5, "thresholds": {"claim": 0.4}}))
    assert contract_of(adapter) == "annotate/mark@1"
    assert serving_of(adapter) == {"thresholds": {"claim": 0.4}}


def test_descendants_are_seen_with_their_peak() -> None:
    if not Path("/proc/self/task").exists():
        pytest.skip("no /proc here")
    import subprocess
    import sys

    fill = "block = bytearray(30_000_000); block[::4096] = b'x' * len(block[::4096]); del block"
    code = f"import sys; {fill}; print(1, flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        child.stdout.readline()
        assert child.pid in descendants(os.getpid())
        assert peak_resident(child.pid) > 30_000_000
        child.stdin.close()


@pytest.fixture(scope="module")
def torch() -> Any:
    module: Any = pytest.importorskip("torch", reason="needs the finetune extra")
    pytest.importorskip("transformers", reason="needs the finetune extra")
    if not BASE.exists():
        pytest.skip("the bundled base is not in this checkout")
    return module


@pytest.mark.slow
def test_a_marker_folder_answers_as_the_marker_itself(place: Path, torch: Any) -> None:
    from finetune.evaluation.torch_model import TorchModel
    from finetune.mark_data import Labels
    from finetune.mark_model import Marker
    from skills.annotate import mark

    labels = Labels(MOVES.names, ((), ("claim",), ("claim", "novelty"), ("evidence",)))
    marker = Marker(BASE, labels, 1)
    with torch.no_grad():
        marker.own_vectors.normal_(std=0.5)
    marker.save(place / "model")
    expected = marker.predict([marker.encoder.gold(gold_row(0))], bf16=False)[0] @ labels.matrix
    model = TorchModel(place / "model", name="m", contract=mark.CONTRACT, threads=1)
    try:
        rows = []
        for text in reversed(mark.prompts(PAPERS[0][1], PAPERS[0][2])):
            reply = model.generate(Request(prompt=text, options=Options(max_tokens=1, top_logprobs=9000)))
            top = dict(reply.logprobs[0].top)
            spare = {token: value for token, value in top.items() if mark.label_moves(token) is not None}
            assert set(spare) == set(labels.tokens)
            rows.append([*mark.marginals(top, MOVES.names).values()])
        assert np.array(rows[::-1]) == pytest.approx(expected, abs=1e-4)
        assert model.count_tokens("We propose a walk.") > 3
    finally:
        model.close()
    with pytest.raises(ModelError, match="closed"):
        model.count_tokens("x")


@pytest.mark.slow
def test_an_adapter_folder_writes_what_the_adapted_base_writes(place: Path, torch: Any) -> None:
    peft: Any = pytest.importorskip("peft", reason="needs the finetune extra")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from finetune.evaluation.torch_model import TorchModel
    from finetune.sft.data import CHATML

    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    tuned = peft.get_peft_model(base, peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2)
    tuned.save_pretrained(place / "adapter")
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    if "<|im_start|>" not in tokenizer.get_vocab():
        pytest.skip("the base has no marks of a chat")
    message = {"role": "user", "content": "Which sentences state a claim?"}
    text = tokenizer.apply_chat_template([message], chat_template=CHATML, tokenize=False, add_generation_prompt=True)
    ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
    with torch.no_grad():
        ends = tokenizer.convert_tokens_to_ids("<|im_end|>")
        written = tuned.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False, eos_token_id=ends
        )
    expected = tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True)
    model = TorchModel(place / "adapter", name="a", threads=1)
    try:
        reply = model.generate(Request(messages=(Message("user", message["content"]),), options=Options(max_tokens=12)))
    finally:
        model.close()
    assert reply.text == expected
    assert reply.prompt_tokens == ids.shape[1]


@pytest.mark.slow
def test_an_adapter_without_its_base_is_one_line(place: Path, torch: Any) -> None:
    from finetune.evaluation.torch_model import TorchModel

    (place / "adapter").mkdir()
    (place / "adapter" / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "no/such-base"}))
    (place / "adapter" / "adapter_model.safetensors").write_bytes(b"")
    model = TorchModel(place / "adapter", name="a")
    try:
        with pytest.raises(ModelError, match="its base no/such-base is not on this machine"):
            model.count_tokens("x")
    finally:
        model.close()
