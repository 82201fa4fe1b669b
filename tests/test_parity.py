"""The parity gate: what it lets through, what it holds back, and the templates that it compares."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the finetune extra")
pytest.importorskip("transformers", reason="needs the finetune extra")
pytest.importorskip("xllamacpp")

from tiny_hf import TEMPLATE, make_folder, make_tokenizer

from finetune import parity
from finetune.chat_templates import EXTRA_CHATS, TEMPLATES, choose, render
from finetune.convert_gguf import convert
from finetune.llama_probe import Answer, Case, Next, probe
from harness.errors import InputError, ModelError

QWEN_DEFAULT = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
QWEN25 = "{% if messages[0].role != 'system' %}<|im_start|>system\n" + QWEN_DEFAULT + "<|im_end|>\n{% endif %}" + TEMPLATE
CHATS: tuple[Any, ...] = (({"role": "system", "content": "Be short."}, {"role": "user", "content": "We show that…"}),)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("parity") / "hf"
    make_folder(out, "Qwen3", make_tokenizer(), tied=True, shape={"max_position_embeddings": 4096})
    return out


@pytest.fixture(scope="module")
def gguf(folder: Path) -> Path:
    return convert(folder, folder.parent / "f32.gguf", "f32")


def test_a_faithful_file_passes_and_a_spoilt_one_does_not(folder: Path, gguf: Path, tmp_path: Path) -> None:
    prompts = parity.Prompts("", texts=("We show that", "A baseline of 12"))
    report, template = parity.gate(folder, {"f32": gguf}, prompts)
    found = report["types"]["f32"]
    assert report["passed"]
    assert template is None
    assert found["positions"] > 20
    assert found["top1"] == found["greedy"] == 1
    assert found["kl"] < 1e-5
    parity.require(report)

    spoilt = tmp_path / "spoilt.gguf"
    data = bytearray(gguf.read_bytes())
    data[-40_000:] = bytes(40_000)  # the last tensors are zero
    spoilt.write_bytes(data)
    report, _ = parity.gate(folder, {"f32": spoilt}, prompts)
    assert not report["passed"]
    with pytest.raises(InputError, match=r"parity gate: f32: top1 agreement is .*mean KL divergence"):
        parity.require(report)
    assert json.loads(json.dumps(report)) == report
    assert "mean KL" in parity.table(report)


def test_a_chat_contract_gets_its_template(folder: Path, gguf: Path) -> None:
    report, template = parity.gate(folder, {"f32": gguf}, parity.make_prompts("annotate/quote@1", count=1))
    assert template is not None
    assert (report["template"], report["template_equal"], report["passed"]) == ("chatml", True, True)


def test_a_gguf_whose_own_template_renders_otherwise_is_held_back(folder: Path, tmp_path: Path) -> None:
    import shutil

    other = tmp_path / "hf"
    shutil.copytree(folder, other)
    (other / "chat_template.jinja").write_text(TEMPLATE.replace("assistant", "helper"))
    gguf = convert(other, tmp_path / "x.gguf", "f32")
    report, _ = parity.gate(folder, {"f32": gguf}, parity.Prompts("annotate/quote@1", chats=CHATS))
    assert report["types"]["f32"]["failures"]
    with pytest.raises(InputError, match="other tokens or bytes for the prompt"):
        parity.require(report)


@pytest.mark.parametrize(("jinja", "name"), [(TEMPLATE, "chatml"), (QWEN25, "qwen2.5")])
def test_the_template_that_fits_the_contract_and_then_the_rest(jinja: str, name: str) -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = jinja

    def hf(chat: Any) -> str:
        return str(tokenizer.apply_chat_template([*chat], tokenize=False, add_generation_prompt=True))

    found = choose(hf, CHATS)
    assert found.name == name
    assert all(render(found.go, chat) == hf(chat) for chat in (*CHATS, *EXTRA_CHATS))


def test_a_template_that_none_of_ours_equals() -> None:
    with pytest.raises(InputError, match=r"none of chatml, qwen2\.5, llama3 does"):
        choose(lambda chat: "### " + chat[-1]["content"], CHATS)


def test_go_templates_as_ollama_renders_them() -> None:
    chat = ({"role": "user", "content": "{{ a }}"}, {"role": "assistant", "content": "b"})
    assert render(TEMPLATES[2].go, chat).startswith("<|start_header_id|>user<|end_header_id|>\n\n{{ a }}<|eot_id|>")
    assert render("x {{- if .System }}S{{ end -}} \n y", chat) == "xy"
    assert render("x{{ if .System }}{{ .System }}{{ end }}", CHATS[0]) == "xBe short."
    for broken in ("{{ range .Messages }}", "{{ end }}", "{{ with .X }}{{ end }}"):
        with pytest.raises(ValueError):
            render(broken, chat)


def test_divergence_of_known_distributions() -> None:
    p = np.log(np.array([0.5, 0.25, 0.125, 0.125], np.float32))
    same = Next((0, 1, 2, 3), tuple(map(float, p)))
    assert parity.divergence(p, same) == pytest.approx(0, abs=1e-7)
    other = Next((1, 0), (float(np.log(0.5)), float(np.log(0.25))))
    assert parity.divergence(p, other) == pytest.approx(0.5 * np.log(2) + 0.25 * np.log(0.5), rel=1e-5)


def test_near_ties_count_for_neither_side() -> None:
    row = np.log(np.array([[0.5, 0.499, 0.001], [0.9, 0.09, 0.01]], np.float32))
    asked = parity.Asked(("x",), ((1,),), (Case((1, 0), (0, 1)),), (row,), None)
    flipped = Next((1, 0, 2), tuple(map(float, row[0][[1, 0, 2]])))
    found = parity.compare(asked, Answer(((1,),), (), ((flipped, Next((0, 1, 2), tuple(map(float, row[1])))),)), 0.02)
    assert (found.positions, found.near_ties, found.top1, found.greedy) == (1, 1, 1, 1)
    assert found.largest_margin == pytest.approx(0.002, rel=0.01)
    found = parity.compare(asked, Answer(((2,),), (), ((flipped, flipped),)), 0.02)
    assert (found.top1, found.greedy, found.wrong_tokens) == (0, 0, ["x"])
    limits = parity.Limits(0.9, 0.9, 0.1)
    assert len(parity.judge(found, limits)) == 4


def test_a_divergence_that_is_no_number_fails() -> None:
    found = parity.Agreement(positions=1, near_ties=0, top1=1, greedy=1, kl=float("nan"), largest_margin=0)
    assert parity.judge(found, parity.Limits(0, 0, 1)) != []


def test_what_cannot_be_compared(folder: Path, gguf: Path, tmp_path: Path) -> None:
    broken = tmp_path / "x.gguf"
    broken.write_bytes(gguf.read_bytes()[:5000])
    with pytest.raises(ModelError, match=r"x\.gguf: llama.cpp cannot compute it"):
        probe(broken, texts=["a"])
    with pytest.raises(InputError, match="no prompts are known for this contract"):
        parity.make_prompts("expand/lines@1")
    with pytest.raises(InputError, match="the tokenizer has no mark token"):
        parity.gate(folder, {"f32": gguf}, parity.make_prompts("annotate/mark@1", count=1))
    limits = tmp_path / "limits.yaml"
    limits.write_text("near_tie: 1\ntypes: {f16: {top: 1}}\n")
    with pytest.raises(InputError, match=r"limits\.yaml: cannot be read as parity limits"):
        parity.load_limits(limits)


def test_every_type_has_limits_that_loosen_with_the_bits() -> None:
    from typing import get_args

    from finetune.quantise import OutType

    _, limits = parity.load_limits()
    in_order = [limits[name] for name in get_args(OutType)]
    for more, fewer in itertools.pairwise(in_order):
        assert more.kl <= fewer.kl
        assert more.greedy >= fewer.greedy


def test_command_line(folder: Path, gguf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert parity.main([str(folder), str(gguf), "--count", "2", "--threads", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["passed"] is True
    assert parity.main([str(folder), str(folder / "config.json")]) == 1
    assert "cannot be read as a GGUF model" in capsys.readouterr().err
