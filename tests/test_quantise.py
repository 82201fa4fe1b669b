"""Quantised bytes against ggml's own quantiser, the choice of types against llama.cpp's rules, and files against faults."""

from __future__ import annotations

import ctypes
import glob
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_gguf import Shape, write_tiny_gguf

from finetune import k_quants
from finetune.quantise import BLOCK, as_outtype, encode, main, more_bits, requantise, shares_values, storage_types
from harness.config import ROOT
from harness.errors import InputError

GGML = {"Q4_0": 2, "Q5_0": 6, "Q5_1": 7, "Q8_0": 8, "Q4_K": 12, "Q5_K": 13, "Q6_K": 14}


@pytest.fixture(scope="module")
def ggml() -> Any:
    """``ggml_quantize_chunk`` of the embedded runtime's library: the reference."""
    runtime = pytest.importorskip("xllamacpp")
    libraries = glob.glob(f"{runtime.__path__[0]}/*.so")
    if not libraries:
        pytest.skip("the runtime's library exports no quantiser here (Windows)")
    quantise = ctypes.CDLL(libraries[0]).ggml_quantize_chunk
    quantise.restype = ctypes.c_size_t
    quantise.argtypes = [
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_int64,
        ctypes.c_int64,
        ctypes.c_int64,
        ctypes.c_void_p,
    ]

    def run(values: Any, kind: str) -> Any:
        import gguf

        rows, width = values.shape
        size, length = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
        out = np.zeros((rows, width // size * length), np.uint8)
        written = quantise(GGML[kind], values.ctypes.data, out.ctypes.data, 0, rows, width, None)
        assert written == out.size
        return out

    return run


def samples() -> dict[str, Any]:
    """Weights of every kind that a branch of the quantisers is for; rows of 256, but for the first."""
    rng = np.random.default_rng(7)
    normal = rng.standard_normal((48, 256))
    scales = 10.0 ** rng.integers(-9, 2, (48, 8, 1))
    made = {
        "wide": rng.standard_normal((12, 1024)) * 0.02,
        "heavy tails": rng.laplace(size=(48, 256)) * 0.1,
        "from f16": (normal * 0.05).astype(np.float16),
        "all positive": np.abs(normal),
        "constant": np.full((2, 256), 0.3),
        "constant, negative": np.full((2, 256), -0.3),
        "zero": np.zeros((2, 256)),
        "nearly empty": normal * (rng.random((48, 256)) < 0.02) + 0.0,  # no -0: gguf's zero scales differ in sign
        "scales below f16": normal * 1e-7,
        "next to nothing": normal * 1e-16,
        "outliers": normal * np.where(rng.random((48, 256)) < 0.005, 50, 1),
        "sub-blocks of all sizes": (rng.standard_normal((48, 8, 32)) * scales).reshape(48, 256),
        "whole numbers": rng.integers(-8, 8, (48, 256)),
        "one block": normal[:1],
        "large": normal * 1e5,
    }
    return {name: np.ascontiguousarray(values, np.float32) for name, values in made.items()}


@pytest.mark.parametrize("kind", GGML)
def test_the_bytes_are_ggmls(ggml: Any, kind: str) -> None:
    for name, values in samples().items():
        if name == "large" and kind in {"Q4_0", "Q5_0", "Q5_1", "Q8_0"}:
            continue
        assert np.array_equal(encode(values, kind, name).view(np.uint8), ggml(values, kind)), name


def test_a_row_that_is_no_whole_super_block_is_refused() -> None:
    with pytest.raises(ValueError, match="no multiple of 256"):
        k_quants.quantise(np.zeros((2, 128), np.float32), "Q4_K")


@pytest.mark.parametrize(("value", "kind"), [(np.nan, "Q4_K"), (np.inf, "Q8_0"), (np.nan, "F32"), (1e6, "F16")])
def test_what_cannot_be_stored_names_the_tensor(value: float, kind: str) -> None:
    values = np.zeros((2, 256), np.float32)
    values[1, 3] = value
    with pytest.raises(InputError, match=r"model\.safetensors: blk\.0 holds values that"):
        encode(values, kind, "model.safetensors: blk.0")


def shapes(layers: int, width: int, *, tied: bool) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {"token_embd.weight": (1000, width), "output_norm.weight": (width,)}
    if not tied:
        found["output.weight"] = (1000, width)
    for layer in range(layers):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
            found[f"blk.{layer}.{name}.weight"] = (width, width)
        found[f"blk.{layer}.attn_norm.weight"] = (width,)
        found[f"blk.{layer}.attn_q.bias"] = (width,)
    return found


def test_a_k_mixture_gives_more_bits_where_llama_cpp_does() -> None:
    types, notes = storage_types(shapes(16, 512, tied=False), "q4_K_M", 16)
    better = {layer for layer in range(16) if types[f"blk.{layer}.attn_v.weight"] == "Q6_K"}
    assert better == {0, 1, 4, 7, 10, 13, 14, 15}  # the first and last two of sixteen, and every third
    assert better == {layer for layer in range(16) if types[f"blk.{layer}.ffn_down.weight"] == "Q6_K"}
    assert types["blk.0.attn_q.weight"] == types["blk.2.attn_v.weight"] == types["token_embd.weight"] == "Q4_K"
    assert types["output.weight"] == "Q6_K"
    assert types["blk.0.attn_norm.weight"] == types["blk.0.attn_q.bias"] == "F32"
    assert notes == []
    assert [more_bits(layer, 6) for layer in range(6)] == [False, False, True, False, False, True]


@pytest.mark.parametrize(
    ("outtype", "tied", "embedding", "head", "inside"),
    [
        ("q5_K_M", True, "Q6_K", None, "Q5_K"),
        ("q6_K", False, "Q6_K", "Q6_K", "Q6_K"),
        ("q4_0", True, "Q6_K", None, "Q4_0"),
        ("q5_0", False, "Q5_0", "Q6_K", "Q5_0"),
        ("q8_0", True, "Q8_0", None, "Q8_0"),
        ("bf16", False, "BF16", "BF16", "BF16"),
    ],
)
def test_the_head_is_kept_better(outtype: Any, tied: bool, embedding: str, head: str | None, inside: str) -> None:
    types, _ = storage_types(shapes(8, 256, tied=tied), outtype, 8)
    assert types["token_embd.weight"] == embedding
    assert types.get("output.weight") == head
    assert types["blk.3.ffn_up.weight"] == inside


def test_rows_that_do_not_divide_fall_back_and_it_is_said() -> None:
    types, notes = storage_types(shapes(4, 896, tied=True), "q4_K_M", 4)  # the width of Qwen2.5-0.5B
    assert types["blk.1.attn_q.weight"] == "Q5_0"
    assert types["token_embd.weight"] == "Q8_0"
    assert {types[f"blk.{layer}.ffn_down.weight"] for layer in range(4)} == {"Q8_0", "Q5_0"}
    assert "blk.1.attn_q.weight: rows of 896 cannot be Q4_K, stored as Q5_0" in notes
    types, _ = storage_types(shapes(4, 96 + 16, tied=True), "q5_K_M", 4)
    assert types["blk.1.attn_q.weight"] == "F16"
    assert all(shape % BLOCK[types[name]] == 0 for name, shape in [("blk.0.ffn_up.weight", 112)])


def test_seventy_billion_parameters_keep_their_shared_values() -> None:
    assert shares_values("llama", 80, 64, 8)
    assert not shares_values("llama", 80, 64, 64)
    assert not shares_values("llama", 32, 32, 8)
    types, _ = storage_types(shapes(80, 256, tied=False), "q4_K_M", 80, shared_values=True)
    assert {types[f"blk.{layer}.attn_v.weight"] for layer in range(80)} == {"Q5_K", "Q6_K"}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_tiny_gguf(tmp_path / "f16.gguf", Shape(hidden=256, feed_forward=512, layers=2), spread=0.05)


def contents(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    import gguf

    reader = gguf.GGUFReader(path)
    fields = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    return fields, {tensor.name: (tensor.tensor_type.name, np.array(tensor.data)) for tensor in reader.tensors}


def test_one_gguf_from_another(tmp_path: Path, source: Path, ggml: Any) -> None:
    said: list[str] = []
    out = requantise(source, tmp_path / "q.gguf", "q4_K_M", threads=3, say=said.append)
    old, new = contents(source), contents(out)
    assert new[0]["general.file_type"] == 15
    assert {**new[0], "general.file_type": 0} == {**old[0], "general.file_type": 0}
    assert said == []
    for name, (kind, data) in new[1].items():
        before = old[1][name][1]
        assert np.array_equal(data, ggml(before.astype(np.float32), kind) if kind != "F32" else before), name
    assert {kind for kind, _ in new[1].values()} == {"F32", "Q4_K", "Q6_K"}
    assert out.read_bytes() == requantise(source, tmp_path / "again.gguf", "q4_K_M").read_bytes()
    with pytest.raises(InputError, match="quantised already"):
        requantise(out, tmp_path / "twice.gguf", "q4_0")


@pytest.mark.parametrize(("content", "says"), [(None, "missing"), (b"GGUF", "cannot be read"), (b"PK", "cannot be read")])
def test_what_is_no_gguf(tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "x.gguf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=f"x.gguf: {says}"):
        requantise(path, tmp_path / "out.gguf", "q8_0")
    assert not (tmp_path / "out.gguf").exists()


def test_a_truncated_gguf(tmp_path: Path, source: Path) -> None:
    source.write_bytes(source.read_bytes()[:-5000])
    with pytest.raises(InputError, match="cannot be read as a GGUF model"):
        requantise(source, tmp_path / "out.gguf", "q8_0")


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "out.gguf"
    out.write_bytes(b"the old file")
    code = "import sys; from finetune.quantise import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, str(source), "--type", "q8_0", "--out", str(out)]

    def small() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    done = subprocess.run(command, cwd=ROOT, preexec_fn=small, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "out.gguf: could not be written" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert out.read_bytes() == b"the old file"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f16.gguf", "out.gguf"]


def test_command_line(tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "q.gguf"
    assert main([str(source), "--type", "Q4_0", "--out", str(out)]) == 0
    assert contents(out)[0]["general.file_type"] == 2
    assert main([str(source), "--type", "q3", "--out", str(out)]) == 1
    assert "'q3' is not a type; one of f32" in capsys.readouterr().err
    assert as_outtype(" Q5_k_m ") == "q5_K_M"
