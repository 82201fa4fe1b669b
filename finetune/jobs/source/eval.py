"""Scores of /expand's model in the cloud: expansions of our queries, greedy, by the published rubric.

    hf jobs uv run --flavor a10g-small --secrets HF_TOKEN --timeout 1h finetune/jobs/eval.py \\
        --model USER/qmd-query-expansion-1.7B-grpo --sft-model USER/qmd-query-expansion-1.7B-sft

An adapter goes onto the base that --base names, that of --sft-model first: GRPO was trained on the merged SFT weights.
What the model writes by itself is scored, without a grammar and without filters, as upstream does.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from finetune.jobs.source.cloud import load, model_folder
from finetune.jobs.source.eval_common import our_queries, prompt_of, report, scored
from skills.expand.prompt import OUTPUT_TOKENS

DEPENDENCIES = ("accelerate>=1.15", "peft>=0.21", "torch>=2.6", "transformers>=5")
FILES = ()
BASE = "Qwen/Qwen3-1.7B"


def written(model: Any, tokenizer: Any, prompts: Sequence[str], batch: int) -> Iterator[str]:
    """What the model writes after each prompt, greedily."""
    import torch

    tokenizer.padding_side = "left"
    ends = [tokenizer.convert_tokens_to_ids("<|im_end|>"), tokenizer.eos_token_id]
    for start in range(0, len(prompts), batch):
        rows = tokenizer(list(prompts[start : start + batch]), return_tensors="pt", padding=True, add_special_tokens=False)
        with torch.inference_mode():
            output = model.generate(
                **rows.to(model.device),
                max_new_tokens=OUTPUT_TOKENS,
                do_sample=False,
                eos_token_id=ends,
                pad_token_id=ends[0],
            )
        yield from tokenizer.batch_decode(output[:, rows["input_ids"].shape[1] :], skip_special_tokens=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Generate and score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="", metavar="REF", help="model or adapter")
    parser.add_argument("--sft-model", default="", metavar="REF", help="adapter that is merged before it")
    parser.add_argument("--base", default=BASE, metavar="REF", help=f"what adapters go onto (default: {BASE})")
    parser.add_argument("--batch", type=int, default=16, metavar="N", help="queries at once (default 16)")
    parser.add_argument("--limit", type=int, default=0, metavar="N", help="the first N queries only")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="write all as JSON")
    parser.add_argument("-v", "--verbose", action="store_true", help="show every query")
    parser.add_argument("--dry-run", action="store_true", help="show what would be asked, and stop")
    args = parser.parse_args(argv)
    queries = our_queries()[: args.limit or None]
    if args.dry_run:
        print(json.dumps({"queries": len(queries), "prompt": prompt_of(queries[0][1]), "tokens": OUTPUT_TOKENS}))
        return 0
    if not args.model:
        raise SystemExit("error: --model is missing: name a model or an adapter")
    places = [model_folder(name) for name in (args.sft_model, args.model) if name]
    if (places[-1] / "adapter_config.json").is_file():
        model, tokenizer = load(args.base, *map(str, places))
    elif len(places) == 1:
        model, tokenizer = load(str(places[0]))
    else:
        raise SystemExit(f"error: {args.model}: is a whole model; --sft-model goes with an adapter")
    texts = written(model, tokenizer, [prompt_of(query) for _, query in queries], args.batch)
    report(
        (scored(query, text, name) for (name, query), text in zip(queries, texts, strict=True)),
        args.out,
        verbose=args.verbose,
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
