"""Our converter against llama.cpp's own ``convert_hf_to_gguf.py``: every tensor by hash, every key, time and peak memory.

    python benchmarks/conversion.py --llama-cpp /tmp/llama.cpp [--hf FOLDER …] [--types f16,q8_0]

llama.cpp is not part of this project: give a checkout of it, or the benchmark says that it was skipped. Its converter knows
tokenizers by a hash of whole vocabularies, so ours is unknown to it; the child that runs it is told ``qwen2`` in place of
that look-up, and nothing else is changed. Without ``--hf`` it runs on the bundled base (Qwen3) and on random Qwen2 and
Llama models of 30 million parameters with the same tokenizer, the Llama with Llama 3's RoPE scaling.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import ROOT, need, report

BASE = ROOT / "registry" / "marginalia-base" / "mini"
NAMES = {"general.name", "general.basename", "general.size_label", "general.finetune", "general.version"}
"""Keys that say what a model is called, each converter by its own rules."""
# A process inherits the peak memory of what it was forked from: the one that is measured must come from a small one.
MEASURE = """
import json, os, subprocess, sys, time
start = time.monotonic()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
if os.waitstatus_to_exitcode(status) == 0:
    spent = {"seconds": time.monotonic() - start, "cpu_seconds": usage.ru_utime + usage.ru_stime}
    print(json.dumps({**spent, "peak_mb": usage.ru_maxrss / 1e3}))
"""
THEIRS = """
import runpy, sys
root = sys.argv[1]
sys.path[:0] = [root, root + "/gguf-py"]
from conversion.base import TextModel
TextModel.get_vocab_base_pre = lambda self, tokenizer: "qwen2"
sys.argv = [root + "/convert_hf_to_gguf.py", *sys.argv[2:]]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@dataclass(frozen=True)
class Cost:
    """What a conversion took."""

    seconds: float
    cpu_seconds: float
    peak_mb: float


def run(command: Sequence[str]) -> Cost:
    """Run a command to its end and measure it. Exits where it fails."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    launcher = [sys.executable, "-S", "-c", MEASURE, *command]
    done = subprocess.run(launcher, cwd=ROOT, capture_output=True, text=True, env=environment, check=False)
    *_, last = done.stdout.strip().splitlines() or [""]
    if not last.startswith("{"):
        raise SystemExit(f"{command[1:4]} failed: {done.stderr[-2000:]}")
    return Cost(**json.loads(last))


def random_model(kind: str, folder: Path) -> Path:
    """A random model of some 30 million parameters with the bundled tokenizer."""
    import torch
    import transformers

    rope: dict[str, Any] = {"rope_theta": 10000.0, "rope_type": "default"}
    if kind == "Llama":
        rope |= {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
        rope["original_max_position_embeddings"] = 512
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=8192,
        hidden_size=512,
        intermediate_size=1536,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        rope_parameters=rope,
        tie_word_embeddings=kind == "Qwen2",
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    torch.manual_seed(1)
    getattr(transformers, f"{kind}ForCausalLM")(config).to(torch.bfloat16).save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(BASE).save_pretrained(folder)
    return folder


def contents(path: Path) -> tuple[dict[str, Any], dict[str, tuple[str, str, str]]]:
    """Keys with values, and for each tensor its type, shape and the hash of its bytes."""
    import gguf

    reader = gguf.GGUFReader(path)
    keys = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    tensors = {
        tensor.name: (
            tensor.tensor_type.name,
            str([int(n) for n in tensor.shape]),
            hashlib.sha256(tensor.data.tobytes()).hexdigest(),
        )
        for tensor in reader.tensors
    }
    return keys, tensors


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> Iterator[str]:
    """Keys that only one has, or that differ; lists are named without their contents."""
    for key in sorted({*ours, *theirs} - NAMES):
        if key.startswith("general.sampling") or (key in ours and key in theirs and ours[key] == theirs[key]):
            continue
        shown = [str(values[key])[:40] if key in values else "absent" for values in (ours, theirs)]
        yield f"{key}: ours {shown[0]}, llama.cpp {shown[1]}"


def compare(folder: Path, outtype: str, llama: Path, scratch: Path) -> tuple[list[Any], dict[str, Any]]:
    """One row of the table and its machine-readable form."""
    files = [scratch / f"{who}.gguf" for who in ("ours", "theirs")]
    ours = [sys.executable, "-m", "finetune.convert_gguf", str(folder), "--out", str(files[0]), "--outtype", outtype]
    theirs = [sys.executable, "-c", THEIRS, str(llama), str(folder), "--outfile", str(files[1]), "--outtype", outtype]
    costs = [run(command) for command in ([*ours, "--threads", "1"], theirs)]
    (our_keys, our_tensors), (their_keys, their_tensors) = map(contents, files)
    equal = sum(our_tensors.get(name) == value for name, value in their_tensors.items())
    told = list(differences(our_keys, their_keys))
    result = {
        "model": folder.name,
        "type": outtype,
        "equal_tensors": equal,
        "tensors": len(their_tensors),
        "only_ours": sorted({*our_tensors} - {*their_tensors}),
        "different": sorted(name for name, value in their_tensors.items() if our_tensors.get(name) != value)[:8],
        "keys_that_differ": told,
        "ours": vars(costs[0]),
        "llama_cpp": vars(costs[1]),
    }
    row = [folder.name, outtype, f"{equal} of {len(their_tensors)}", len(told)]
    row += [f"{one.cpu_seconds:.1f} / {one.peak_mb:.0f}" for one in costs]
    return row, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama-cpp", type=Path, default=Path("/tmp/llama.cpp"), help="a checkout of ggml-org/llama.cpp")
    parser.add_argument("--hf", type=Path, action="append", help="checkpoint folder; may be given several times")
    parser.add_argument("--types", default="f32,f16,bf16,q8_0")
    args = parser.parse_args()
    if not (args.llama_cpp / "conversion" / "base.py").is_file():
        raise SystemExit(f"skipped: {args.llama_cpp} is no checkout of llama.cpp (--llama-cpp)")
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        folders = args.hf or [BASE, random_model("Qwen2", scratch / "qwen2"), random_model("Llama", scratch / "llama")]
        found = [
            compare(need(folder), outtype, args.llama_cpp, scratch)
            for folder in folders
            for outtype in args.types.split(",")
        ]
    header = ["checkpoint", "type", "equal tensors", "keys that differ", "ours: CPU s / MB", "llama.cpp: CPU s / MB"]
    report("Conversion against llama.cpp's converter", header, [row for row, _ in found], {"runs": [r for _, r in found]})


if __name__ == "__main__":
    main()
