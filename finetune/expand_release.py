"""Release a trained model of /expand: GGUF, registry entry, scores, promotion.

    python -m finetune.expand_release finetune_output/qmd/grpo --before finetune_output/qmd/sft --name qmd-expand:mini
    python finetune/eval.py expand --model qmd-expand:mini --train TRAIN.jsonl --judged JUDGED.jsonl -o scores.json
    python -m finetune.expand_release finetune_output/qmd/grpo --scores scores.json
    python -m harness.models.modelfile

The first call writes a candidate beside what is served. Scores are measured through the serving code, of the candidate by
its name, and reach the entry as data; the third call writes them and promotes the entry if it passes its gate.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from finetune.candidate import GATES, add_candidate, expand_parameters, gguf_metadata
from finetune.convert_gguf import convert
from finetune.hf_checkpoint import read_json
from finetune.quantise import OutType, as_outtype
from finetune.sft.base import digest
from harness.arguments import Parser, guarded
from harness.config import ROOT
from harness.errors import InputError
from harness.outputs import atomic_write
from harness.registry import Entry, find, normalise, promote, write
from skills.expand.prompt import CONTRACT, TEMPLATE
from skills.expand.related import read

CONTEXT = 2048
BUNDLED = ":mini"
"""The tag whose model a bare ``ollama run qmd-expand`` means."""
DRAFTS = 4
TYPE: OutType = "q8_0"
"""Half the time of f16 a token on a CPU, the same scores, and the same bits whichever requests share a batch."""
GATE = GATES[CONTRACT]
SETS = {"all": GATE.set, "judged": "judged_queries_dev"}


def product_of(run: Path) -> Path:
    """The model folder of a run of full tuning. Raises InputError where there is none."""
    folder = run / "model"
    if not (folder / "model.safetensors").is_file():
        raise InputError(f"{folder}: no model", "give the output folder of a run with tuning: full, or merge its adapter")
    return folder


def lineage_of(run: Path, before: Path | None) -> dict[str, str]:
    """Hashes of what made the model: of the run itself and, under ``sft_…``, of the one it went on from."""
    own = read_json(run / "lineage.json")
    found = {name: str(own[name]) for name in ("base", "data", "config")}
    if before is not None:
        first = read_json(before / "lineage.json")
        if first.get("model") != own["base"]:
            raise InputError(f"{run}: did not go on from {before}", "give the run whose model was its base")
        found = {"base": str(first["base"]), "sft_data": str(first["data"]), "sft_config": str(first["config"])}
        found |= {"sft_weights": str(first["model"]), "data": str(own["data"]), "config": str(own["config"])}
    return found | {"weights": digest(product_of(run) / "model.safetensors")}


def release(
    run: Path,
    before: Path | None,
    name: str,
    registry: Path,
    *,
    terms: Path | None = None,
    outtype: OutType = TYPE,
    drafts: int = DRAFTS,
) -> Entry:
    """Write the GGUF, a candidate entry and the table of related terms into a registry folder. Raises InputError."""
    lineage = lineage_of(run, before)
    serving: dict[str, Any] = {"drafts": drafts, "lexicon": True}
    if terms is not None:
        serving["terms"] = f"{normalise(name).rpartition(':')[2]}.terms.json.gz"
        lineage["terms"] = f"sha256:{read(terms).digest}"
    with tempfile.TemporaryDirectory(dir=run) as scratch:
        model = product_of(run)
        gguf = convert(model, Path(scratch) / "model.gguf", outtype, metadata=gguf_metadata(lineage, CONTRACT, "MIT"))
        entry = Entry(
            name=normalise(name),
            task="expand",
            contract=CONTRACT,
            base="marginalia-base:mini",
            licence="MIT",
            description="Expands a search query to hyde, lex and vec lines",
            ollama=normalise(name.removesuffix(BUNDLED)),
            lineage=lineage,
            gate=GATE,
            serving=serving,
            template=TEMPLATE,
            parameters=expand_parameters(CONTEXT),
        )
        entry = add_candidate(entry, gguf, registry)
    if terms is not None:
        with atomic_write(entry.folder / serving["terms"], binary=True) as handle:
            handle.write(terms.read_bytes())
    return entry


def scores_of(report: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The registry's scores from what ``eval.py expand -o`` wrote of the first model. Raises InputError."""
    try:
        model = report["models"][0]
        total = model["all"]
        queries = total["queries"]
        found = {
            "queries": queries,
            "percentage": total["percentage"][0],
            "excellent": round(total["excellent"] / queries, 4),
            "parseable": round(total["parseable"] / queries, 4),
            "entities_kept": total["entities_kept"],
            "strict": total["strict"][0] if total["strict"] else None,
        }
        sets = {GATE.set: found}
        if judged := model.get("judged"):
            sets[SETS["judged"]] = {
                "queries": judged["queries"],
                **{
                    name: round(judged[name]["found"] / judged[name]["terms"], 4)
                    for name in ("must_keep", "good_terms", "bad_terms")
                },
            }
    except (KeyError, IndexError, TypeError, ZeroDivisionError):
        raise InputError("the scores are not those of eval.py expand", "write them with -o FILE") from None
    return {name: {key: float(value) for key, value in of.items() if value is not None} for name, of in sets.items()}


def add_scores(name: str, path: Path, registry: Path) -> Entry:
    """Write measured scores into the candidate and promote it. Raises InputError where the gate is not met."""
    entry = find(name, [registry])
    if entry is None:
        raise InputError(f"{name}: not in {registry}", "release it first")
    report = read_json(path)
    measured = report.get("models", [{}])[0].get("digest", "")
    if entry.gguf is None or entry.gguf.sha256 not in str(measured):
        raise InputError(f"{path}: was measured on another file than {name}'s", "measure the candidate by its name")
    write(replace(entry, scores={**entry.scores, **scores_of(report)}), registry)
    return promote(name, [registry]).active


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says."""
    parser = Parser(prog="python -m finetune.expand_release", description=__doc__)
    parser.add_argument("run", type=Path, help="output folder of finetune/train.py grpo or sft, with tuning: full")
    parser.add_argument("--before", type=Path, metavar="RUN", help="the SFT run that it went on from")
    parser.add_argument("--name", default="qmd-expand:mini")
    parser.add_argument("--type", type=as_outtype, default=TYPE, help=f"of the weights (default: {TYPE})")
    parser.add_argument("--drafts", type=int, default=DRAFTS, help=f"answers at most (default {DRAFTS})")
    parser.add_argument("--terms", type=Path, metavar="FILE", help="table of related terms (finetune.expand_terms)")
    parser.add_argument("--scores", type=Path, metavar="FILE", help="what eval.py measured: write it and promote")
    parser.add_argument("--registry", type=Path, default=ROOT / "registry")
    args = parser.parse_args(argv)
    if args.scores:
        entry = add_scores(args.name, args.scores, args.registry)
    else:
        means = {"terms": args.terms, "outtype": args.type, "drafts": args.drafts}
        entry = release(args.run, args.before, args.name, args.registry, **means)
    print(f"{entry.name} is {entry.status}: {json.dumps(entry.scores)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
