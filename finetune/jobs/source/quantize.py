"""The GGUFs of /expand's model in the cloud: base, SFT and GRPO adapters merged in order, f16, q4_K_M, q5_K_M and q8_0.

    hf jobs uv run --flavor cpu-upgrade --secrets HF_TOKEN --timeout 2h finetune/jobs/quantize.py --size 1.7B

The converter and the quantiser are this project's own (numpy, the bytes of llama.cpp's), so nothing is compiled and no GPU
is needed. The files go to a private repository of the hub.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

from finetune.gguf_release import TYPES, file_name, release
from finetune.jobs.source.cloud import AUTO, model_folder, push
from finetune.quantise import as_outtype
from harness.errors import MarginaliaError

DEPENDENCIES = ("gguf>=0.19,<1", "huggingface-hub>=1", "numpy>=2", "pyyaml>=6", "rich>=15")
FILES = ()
ALSO = ("finetune.convert_gguf",)


def main(argv: Sequence[str] | None = None) -> int:
    """Merge, convert, quantise, upload."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("1.7B", "4B"), default="1.7B", help="of Qwen3 (default 1.7B)")
    parser.add_argument("--base", default="", metavar="REF", help="another base than Qwen/Qwen3-SIZE")
    parser.add_argument("--sft", default=AUTO, metavar="REF", help="adapter that is merged first (default: yours)")
    parser.add_argument("--grpo", default=AUTO, metavar="REF", help="adapter that is merged second; none: SFT alone")
    parser.add_argument("--types", default=",".join(TYPES), metavar="A,B", help=f"default {','.join(TYPES)}")
    parser.add_argument("--push", default=AUTO, metavar="REPO", help="where the files go (default: yours); none keeps them")
    parser.add_argument("--out", type=Path, default=Path("gguf"), metavar="FOLDER", help="where they are written first")
    parser.add_argument("--dry-run", action="store_true", help="show what would be read and written, and stop")
    args = parser.parse_args(argv)
    name = f"qmd-query-expansion-{args.size}"
    base = args.base or f"Qwen/Qwen3-{args.size}"
    try:
        types = [as_outtype(one.strip()) for one in args.types.split(",")]
        if args.dry_run:
            files = [file_name(args.size, one) for one in types]
            print(json.dumps({"base": base, "sft": args.sft, "grpo": args.grpo, "files": files}, indent=1))
            return 0
        named = [(args.sft, f"{name}-sft"), (args.grpo, f"{name}-grpo")]
        adapters = [model_folder(given, usual) for given, usual in named if given != "none"]
        threads = os.cpu_count() or 1
        release(model_folder(base), adapters, args.out, size=args.size, types=types, threads=threads, say=print)
    except MarginaliaError as error:
        raise SystemExit(f"error: {error}") from None
    push(args.out, args.push, f"{name}-gguf")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
