"""From an adapter to a model that can be served: merge, GGUF, quantise, parity gate, Modelfile, Ollama, registry candidate.

    python -m finetune.export finetune_output/annotator --base registry/marginalia-base/mini --types f16,q8_0,q4_K_M \
        --name nanda-annotator:mine --held-back ../shared/data/gold/moves_train.jsonl --out finetune_output

    python -m finetune.export finetune_output/research-qa/grpo --base finetune_output/research-qa/sft-merged \
        --name research-qa:q4_0 --types q4_0 --out finetune_output/research-qa/q4_0      # and again for q8_0

Writes ``merged/``, ``NAME.gguf`` (f16), ``NAME-TYPE.gguf``, ``parity.json``, ``Modelfile`` and ``export.json`` into
``--out``, then a candidate into the registry; what fails leaves no candidate. ``--held-back`` is for annotate/mark@1 alone:
gold papers that were not trained on, to fit thresholds and calibration. Scores follow from ``finetune/eval.py``, then
``python agent.py registry score`` and ``registry promote``. Contracts are those of /annotate, ask@1 and expand@1.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import yaml

from finetune import parity
from finetune.candidate import GATE, GATES, add_candidate, described, gguf_metadata, ollama_values
from finetune.chat_templates import Template
from finetune.convert_gguf import convert
from finetune.hf_checkpoint import read_json, read_tensors
from finetune.merge import Width, merge
from finetune.progress import counting
from finetune.quantise import OutType, as_outtype
from finetune.sft.base import digest, find, weights_digest
from harness.arguments import guarded
from harness.errors import InputError, UsageError
from harness.registry import Entry, Gate, folders, normalise, scan
from skills.annotate import mark
from skills.annotate.prompt import QUOTE

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What is asked for."""

    run: Path
    """The trainer's folder: ``adapter/``, ``lineage.json``, ``config.yaml``."""
    base: Path
    out: Path
    name: str
    """Of the model, as in the registry."""
    types: tuple[OutType, ...] = ("f16", "q8_0", "q4_K_M")
    contract: str = ""
    """Empty: what the run says, else mark@1 where it has labels and quote@1 where not."""
    serve: OutType | None = None
    """The type that the registry and Ollama get; the one with the fewest bits unless named."""
    width: Width = "f16"
    papers: Path = parity.SAMPLE
    count: int = 8
    limits: Path = parity.LIMITS
    held_back: Path | None = None
    registry: Path | None = None
    """None registers nothing."""
    ollama: str | None = None
    """The daemon to create the model in; None leaves Ollama alone."""
    licence: str = ""
    gate: Gate | None = None
    """None takes the contract's own."""
    threads: int = 1


@dataclass
class _Clock:
    """Seconds that each step took."""

    say: Say
    steps: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        self.say(name)
        start = time.monotonic()
        yield
        self.steps[name] = round(time.monotonic() - start, 2)


def file_name(name: str, outtype: OutType) -> str:
    """``nanda-annotator.gguf`` for f16, ``nanda-annotator-q8_0.gguf`` for another type.

    >>> file_name("someone/nanda-annotator:mine", "q4_K_M")
    'nanda-annotator-q4_K_M.gguf'
    """
    stem = normalise(name).rpartition(":")[0].split("/")[-1]
    return f"{stem}.gguf" if outtype == "f16" else f"{stem}-{outtype}.gguf"


def export(plan: Plan, say: Say = lambda line: None) -> dict[str, Any]:
    """Go the whole way; the report is also ``export.json``. Raises MarginaliaError, and then nothing was registered."""
    name, contract = normalise(plan.name), contract_of(plan)
    served = plan.serve if plan.serve else max(plan.types, key=lambda outtype: get_args(OutType).index(outtype))
    _check(plan, name, contract, served)
    prompts = parity.make_prompts(contract, plan.papers, plan.count)
    plan.out.mkdir(parents=True, exist_ok=True)
    clock, start = _Clock(say), time.monotonic()

    merged = plan.out / "merged"
    with clock.step("merge"), counting(len(read_tensors(plan.base)), "tensors") as on_tensor:
        merge(plan.run, plan.base, merged, width=plan.width, on_tensor=on_tensor)
    lineage = lineage_of(plan, merged)
    licence = plan.licence or licence_of(plan.base)
    ggufs, files = _convert(plan, merged, gguf_metadata(lineage, contract, licence) | {"general.name": name}, clock)
    with clock.step("parity"):
        agreement, template = parity.gate(merged, ggufs, prompts, threads=plan.threads, limits=plan.limits)
    _write_json(plan.out / "parity.json", agreement)
    say(parity.table(agreement))
    parity.require(agreement)

    entry = build_entry(plan, name, contract, lineage, licence, template)
    if contract == mark.CONTRACT and plan.held_back:
        with clock.step("thresholds and calibration"):
            entry = _fitted(entry, merged, plan.held_back, plan.out)
    _write_modelfile(entry, ggufs[served], plan.out)
    if plan.ollama is not None:
        with clock.step("ollama create"):
            create_in_ollama(entry, ggufs[served], plan.ollama, say)
    written = add_candidate(entry, ggufs[served], plan.registry) if plan.registry else None
    report = {
        "name": name,
        "contract": contract,
        "base": entry.base,
        "licence": licence,
        "lineage": lineage,
        "files": files,
        "served": served,
        "parity": "passed",
        "entry": str(written.file) if written else None,
        "seconds": {**clock.steps, "all": round(time.monotonic() - start, 2)},
        "peak_rss_mb": peak_memory(),
    }
    _write_json(plan.out / "export.json", report)
    return report


def _convert(
    plan: Plan, merged: Path, metadata: Mapping[str, str], clock: _Clock
) -> tuple[dict[OutType, Path], list[dict[str, Any]]]:
    """The GGUF of each type, and what the report says of it."""
    ggufs, files = {}, []
    count = len(read_tensors(merged))
    for outtype in plan.types:
        path, notes = plan.out / file_name(plan.name, outtype), list[str]()
        with clock.step(path.name), counting(count, "tensors") as on_tensor:
            convert(merged, path, outtype, metadata=metadata, threads=plan.threads, say=notes.append, on_tensor=on_tensor)
        for note in notes:
            clock.say(f"  {note}")
        made = described(path)
        ggufs[outtype] = path
        files.append({"type": outtype, "file": path.name, "bytes": made.size, "sha256": made.sha256, "fallbacks": notes})
    return ggufs, files


def contract_of(plan: Plan) -> str:
    """The prompt contract: as asked, else as the run's configuration says, else by whether the adapter has labels."""
    if plan.contract:
        whole = plan.contract in GATES or plan.contract.startswith("annotate/")
        return plan.contract if whole else f"annotate/{plan.contract}"
    path = plan.run / "config.yaml"
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read ({error})", "correct it, or give --contract") from None
    if isinstance(values, dict) and values.get("contract"):
        return str(values["contract"])
    return mark.CONTRACT if (plan.run / "adapter" / "labels.json").is_file() else QUOTE


def _check(plan: Plan, name: str, contract: str, served: OutType) -> None:
    """Everything that can be wrong before hours are spent."""
    if len(set(plan.types)) < len(plan.types) or served not in plan.types:
        raise UsageError(f"--types {','.join(plan.types)}: doubled, or without {served}", "name each type once")
    if plan.registry is None:
        return
    if contract == mark.CONTRACT and plan.held_back is None:
        remedy = "give --held-back GOLD.jsonl, or --no-registry"
        raise UsageError(f"{contract} needs papers that were not trained on, to fit its thresholds", remedy)
    if any(entry.name == name and entry.status == "active" for entry in scan([plan.registry])[0]):
        raise UsageError(f"{name} is served now", "export under another tag, so that it can be rolled back to")


def lineage_of(plan: Plan, merged: Path) -> dict[str, str]:
    """Hashes of data, configuration, base, adapter and result, as the trainer recorded them or as the files are."""
    path = plan.run / "lineage.json"
    recorded = {key: str(value) for key, value in read_json(path).items() if value} if path.is_file() else {}
    found = {
        "base": weights_digest(plan.base),
        "adapter": digest(plan.run / "adapter" / "adapter_model.safetensors"),
        "merged": weights_digest(merged),
    }
    if (config := plan.run / "config.yaml").is_file():
        found["config"] = digest(config)
    return {**recorded, **found} | ({"config": recorded["config"]} if "config" in recorded else {})


def licence_of(base: Path) -> str:
    """The licence that the base's model card names in its front matter; empty where none does."""
    card = base / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    _, begin, rest = text.partition("---\n")
    try:
        values = yaml.safe_load(rest.partition("\n---")[0]) if begin and text.startswith("---") else {}
    except yaml.YAMLError:
        values = {}
    return str(values.get("license") or "") if isinstance(values, dict) else ""


def build_entry(
    plan: Plan, name: str, contract: str, lineage: Mapping[str, str], licence: str, template: Template | None
) -> Entry:
    """The registry entry, but for its GGUF and what is fitted to held-back papers."""
    config = read_json(plan.base / "config.json")
    trained = int(config.get("max_position_embeddings", 0)) or 2048
    return Entry(
        name=name,
        task=re.split("[/@]", contract)[0],
        contract=contract,
        base=_base_name(plan.base),
        licence=licence,
        description=f"Fine-tuned for {contract}",
        ollama=name,
        lineage=lineage,
        gate=plan.gate or GATES.get(contract, GATE),
        **ollama_values(contract, template, trained),
    )


def _base_name(base: Path) -> str:
    """``marginalia-base:mini`` for a folder of the registry, ``Qwen/Qwen2.5-7B-Instruct`` for one of the hub's cache, else
    the folder's own name."""
    if base.parent.name == "snapshots" and base.parent.parent.name.startswith("models--"):
        return base.parent.parent.name.removeprefix("models--").replace("--", "/", 1)
    whole = base.resolve()
    return f"{whole.parent.name}:{whole.name}" if whole.parent.parent.name == "registry" else whole.name


def _fitted(entry: Entry, merged: Path, held_back: Path, out: Path) -> Entry:
    """The entry with thresholds and calibration fitted to papers; they also lie in ``serving.json``. Raises InputError."""
    from finetune.dataset.abstracts import read_jsonl
    from finetune.mark_model import load_marker
    from finetune.mark_release import fitted_values

    try:
        values = fitted_values(load_marker(merged), list(read_jsonl(held_back)))
    except (OSError, ValueError, KeyError, TypeError) as error:
        remedy = "give gold papers with sentences and moves"
        raise InputError(f"{held_back}: cannot be used to fit thresholds ({error})", remedy) from None
    _write_json(out / "serving.json", values["serving"])
    return replace(entry, serving=values["serving"], scores={"held_back": values["scores"]})


def _write_modelfile(entry: Entry, gguf: Path, out: Path) -> None:
    """``Modelfile`` beside the GGUF, for ``ollama create NAME -f Modelfile``."""
    from harness.models.modelfile import commands
    from harness.outputs import atomic_write

    lines = commands(replace(entry, gguf=described(gguf), folder=out), out)
    with atomic_write(out / "Modelfile") as handle:
        handle.write("\n".join([f"# ollama create {entry.ollama} -f Modelfile", *lines]) + "\n")


def create_in_ollama(entry: Entry, gguf: Path, host: str, say: Say) -> None:
    """``ollama create`` through the daemon's API. Raises ModelUnavailable where none answers."""
    from harness.models.ollama_daemon import OllamaDaemon
    from harness.models.ollama_install import install

    last = ""

    def told(status: str, done: int, total: int) -> None:
        nonlocal last
        line = f"  {status} {100 * done // total // 10 * 10}%" if total else f"  {status}"
        if line != last:
            say(line)
        last = line

    daemon = OllamaDaemon(host)
    try:
        install(
            daemon,
            entry.ollama,
            gguf,
            template=entry.template or None,
            parameters=dict(entry.parameters),
            license=entry.licence or None,
            on_progress=told,
        )
    finally:
        daemon.close()


def peak_memory() -> float | None:
    """The most megabytes that this process, or one child of it, has held; None where the system does not say."""
    if sys.platform == "win32":
        return None
    import resource

    most = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return round(most / (1e6 if sys.platform == "darwin" else 1e3), 1)


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    from harness.outputs import atomic_write

    with atomic_write(path) as handle:
        handle.write(json.dumps(values, indent=1) + "\n")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the trainer's output folder, which has adapter/")
    parser.add_argument("--base", required=True, help="folder of the base in 16 or 32 bits, or its cached hub name")
    parser.add_argument("--name", default="nanda-annotator:mine")
    parser.add_argument("--out", type=Path, default=Path("finetune_output"))
    parser.add_argument("--types", default="f16,q8_0,q4_K_M", help=f"of {', '.join(get_args(OutType))}")
    parser.add_argument("--serve", help="the type for registry and Ollama (default: the one with the fewest bits)")
    parser.add_argument("--contract", default="", help="such as annotate/quote@1, ask@1 (default: as the run says)")
    parser.add_argument("--width", choices=get_args(Width), default="f16", help="of the merged weights")
    parser.add_argument("--papers", type=Path, default=parity.SAMPLE, help="held-out papers for the parity gate")
    parser.add_argument("--count", type=int, default=8, help="how many of them")
    parser.add_argument("--limits", type=Path, default=parity.LIMITS, help="YAML of the parity gate")
    parser.add_argument("--held-back", type=Path, help="gold JSONL that was not trained on (annotate/mark@1)")
    parser.add_argument("--registry", type=Path, help="registry folder (default: yours)")
    parser.add_argument("--no-registry", action="store_true", help="write files only")
    parser.add_argument("--ollama", nargs="?", const="", metavar="HOST", help="also create the model in Ollama")
    parser.add_argument("--licence", default="", help="(default: as the base's model card says)")
    parser.add_argument("--gate-set", help="set whose scores decide about promotion (default: the contract's)")
    parser.add_argument("--gate-metric", help="which of them, such as macro_f1, factual_accuracy (default: the contract's)")
    parser.add_argument("--gate-minimum", type=float, help="what it must reach (default: the contract's)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", action="store_true", help="print export.json on stdout")
    return parser


def plan_of(args: argparse.Namespace) -> Plan:
    """The plan that a command line asks for. Raises InputError."""
    base = find(args.base).folder
    if base is None:
        raise InputError(f"{args.base}: is not on this machine", f"hf download {args.base}, or give a folder")
    plan = Plan(
        run=args.run,
        base=base,
        out=args.out,
        name=args.name,
        types=tuple(as_outtype(text) for text in args.types.split(",")),
        contract=args.contract,
        serve=as_outtype(args.serve) if args.serve else None,
        width=args.width,
        papers=args.papers,
        count=args.count,
        limits=args.limits,
        held_back=args.held_back,
        registry=None if args.no_registry else args.registry or folders()[0],
        ollama=args.ollama if args.ollama is None else args.ollama or os.environ.get("OLLAMA_HOST", ""),
        licence=args.licence,
        threads=args.threads,
    )
    given = {"set": args.gate_set, "metric": args.gate_metric, "minimum": args.gate_minimum}
    usual = GATES.get(contract_of(plan), GATE)
    return replace(plan, gate=replace(usual, **{name: value for name, value in given.items() if value is not None}))


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Exit 0 when all is done, else the error's own code."""
    args = parser().parse_args(argv)
    report = export(plan_of(args), lambda line: print(line, file=sys.stderr))
    if args.json:
        print(json.dumps(report))
    else:
        print(f"{report['name']}: candidate, {report['seconds']['all']} s, {report['peak_rss_mb']} MB", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
