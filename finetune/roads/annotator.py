"""The road of an annotator: labels → data set → adapter → GGUFs → scores → registry, and once more around.

Every step is a command that can be given by hand; the road only chooses the arguments and the places below ``out``:
``data/``, ``model/`` (checkpoints, adapter), ``merged/``, the GGUFs, ``Modelfile``, ``scores.json``; again in ``loop/``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from finetune.roads.config import RoadConfig
from finetune.roads.steps import Step
from harness.errors import InputError

_READING = ("finetune/dataset", "harness/sentences.py", "skills/annotate/prompt.py", "skills/annotate/mark.py")
_SERVING = (*_READING[1:], "skills/annotate/annotator.py", "skills/annotate/moves.toml")
_EVALUATING = (*_SERVING, "finetune/eval.py", "finetune/evaluation", "finetune/metrics.py")
_EXPORTING = (
    "finetune/export.py",
    "finetune/merge.py",
    "finetune/lora.py",
    "finetune/convert_gguf.py",
    "finetune/gguf_arch.py",
    "finetune/gguf_file.py",
    "finetune/gguf_vocab.py",
    "finetune/quantise.py",
    "finetune/k_quants.py",
    "finetune/parity.py",
    "finetune/candidate.py",
    "finetune/mark_release.py",
)


@dataclass(frozen=True)
class Lap:
    """One time around: where it writes, what it learns from, what it is called."""

    config: RoadConfig
    folder: Path
    prefix: str
    """Before the names of its steps; empty for the first lap."""
    curated: tuple[Path, ...] = ()
    """Annotations that the curator has kept, beside the gold."""

    @property
    def name(self) -> str:
        """What the registry calls the model of this lap."""
        return f"{self.config.name}-loop" if self.prefix else self.config.name

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def model(self) -> Path:
        return self.folder / "model"

    @property
    def merged(self) -> Path:
        return self.folder / "merged"

    @property
    def ggufs(self) -> tuple[Path, ...]:
        """One a type, the one that is served last."""
        from finetune.export import file_name
        from finetune.quantise import as_outtype

        return tuple(self.folder / file_name(self.name, as_outtype(name)) for name in self.config.types)

    @property
    def scores(self) -> Path:
        return self.folder / "scores.json"

    @property
    def serving(self) -> tuple[Path, ...]:
        """Thresholds and calibration, for the contract that has any."""
        return (self.folder / "serving.json",) if self.config.contract == "mark" else ()

    @property
    def held_back(self) -> tuple[Path, ...]:
        """Gold that was not trained on, for the contract whose thresholds are fitted to it."""
        return (self.folder / "held_back.jsonl",) if self.config.contract == "mark" else ()

    @property
    def forms(self) -> Mapping[str, tuple[Path, ...]]:
        """What there is of the model, by the names that ``score`` takes."""
        return {"adapter": (self.model / "adapter",), "merged": (self.merged,), "gguf": self.ggufs}


def road(config: RoadConfig, loop: int = 0) -> list[Step]:
    """The steps of a configuration; with ``loop`` once more around with so many abstracts that the new model annotates.

    Raises InputError where the loop has no abstracts to take.
    """
    steps: list[Step] = []
    curated: tuple[Path, ...] = ()
    if config.agent:
        made = [_curate(config, Path(name), config.folder / f"curated-{n}", "") for n, name in enumerate(config.agent, 1)]
        steps += made
        curated = tuple(step.outputs[0] for step in made)
    first = Lap(config, config.folder, "", curated)
    steps += lap(first)
    if loop:
        if not config.unlabelled:
            raise InputError("--loop: the road names no unlabelled abstracts", "give `unlabelled` in its configuration")
        steps += around(first, loop)
    return steps


def lap(this: Lap) -> list[Step]:
    """From labels to a registry entry."""
    held_back = [_hold_back(this)] if this.held_back else []
    return [_build(this), *held_back, _train(this), _export(this), _evaluate(this), _gate(this)]


def around(first: Lap, count: int) -> list[Step]:
    """The new model annotates abstracts, the curator chooses, a second model learns from gold and those; did it help?"""
    config, folder = first.config, first.folder / "loop"
    chosen, annotated = folder / "unlabelled.csv", folder / "annotated.csv"
    held = [argument for path in (*config.gold, config.held_out) for argument in ("--not-in", path)]
    pick = Step(
        "pick",
        f"choose {count:,} abstracts that no label file has",
        _module(
            "finetune.roads.loop", "pick", config.unlabelled, *held, "--count", str(count), *_seed(config), "--out", chosen
        ),
        inputs=(Path(config.unlabelled), *map(Path, config.gold), Path(config.held_out)),
        outputs=(chosen,),
        code=("finetune/roads/loop.py", "finetune/dataset/leaks.py"),
        minutes=config.minutes.get("pick"),
    )
    annotate = Step(
        "annotate",
        "annotate them with the new model",
        _module(
            "finetune.roads.loop", "annotate", chosen, "--model", first.ggufs[-1], "--home", folder, "--out", annotated
        ),
        inputs=(chosen, first.ggufs[-1], *first.serving),
        outputs=(annotated,),
        code=("finetune/roads/loop.py", *_SERVING),
        partly=(1,),
        minutes=config.minutes.get("annotate"),
    )
    curate = _curate(config, annotated, folder / "curated", "loop-")
    second = Lap(config, folder, "loop-", (*first.curated, curate.outputs[0]))
    helped = Step(
        "helped",
        "compare both models",
        _module("finetune.roads.loop", "helped", first.scores, second.scores, "--out", folder / "helped.json"),
        inputs=(first.scores, second.scores),
        outputs=(folder / "helped.json",),
        code=("finetune/roads/loop.py", "finetune/evaluation/counts.py"),
    )
    return [pick, annotate, curate, *lap(second), helped]


def _step(this: Lap, name: str, what: str, command: tuple[str, ...], **more: object) -> Step:
    """A step of a lap, with the time that the configuration knows for it."""
    step = Step(f"{this.prefix}{name}", what, command, minutes=this.config.minutes.get(name))
    return replace(step, **more)  # type: ignore[arg-type]


def _curate(config: RoadConfig, annotated: Path, target: Path, prefix: str) -> Step:
    kept, log = target.with_suffix(annotated.suffix), target.with_suffix(".log.jsonl")
    return Step(
        f"{prefix}curate" if prefix or len(config.agent) == 1 else f"curate-{target.name[-1]}",
        f"keep what the personas pass of {annotated.name}",
        ("curator.py", str(annotated), "--out", str(kept), "--log", str(log), "--yes"),
        inputs=(annotated,),
        outputs=(kept, log),
        code=("curator.py", "curation"),
        partly=(1,),
        minutes=config.minutes.get("curate"),
    )


def _build(this: Lap) -> Step:
    config = this.config
    arguments = [f"--contract={config.contract}", f"--valid={config.valid}", *_seed(config)]
    arguments += [f"--limit={config.limit}"] if config.limit else []
    for option, paths in (("gold", config.gold), ("curated", this.curated), ("abstracts", config.abstracts)):
        arguments += [f"--{option}={path}" for path in paths]
    files = (*config.gold, config.held_out, *(name for name in config.abstracts if name != "arxiv"))
    outputs = [this.data / name for name in ("train.jsonl", "valid.jsonl", "card.json")]
    return _step(
        this,
        "build",
        "make the data set",
        _module(
            "finetune.build_finetune_from_annotations", *arguments, f"--held-out={config.held_out}", "--out", this.data
        ),
        inputs=(*map(Path, files), *this.curated),
        outputs=(*outputs, *((this.data / "labels.json",) if config.contract == "mark" else ())),
        code=("finetune/build_finetune_from_annotations.py", *_READING),
    )


def _train(this: Lap) -> Step:
    contract = f"contract=annotate/{this.config.contract}@1"
    values = [*_pairs(this.config.settings), f"data={this.data}", f"out={this.model}", contract]
    settings = [argument for value in values for argument in ("--set", value)]
    return _step(
        this,
        "train",
        "train the adapter",
        _module("finetune.train", "sft", this.config.train, *settings),
        inputs=(Path(this.config.train), this.data, *_base(this)),
        outputs=(this.model / "adapter", this.model / "train.json", this.model / "lineage.json"),
        code=("finetune/sft", "finetune/train.py", "skills/annotate/mark.py"),
        resume=("--resume", "auto"),
        restart=("--restart",),
    )


def _hold_back(this: Lap) -> Step:
    gold = [f"--gold={path}" for path in this.config.gold] + [f"--abstracts={path}" for path in this.config.abstracts]
    return _step(
        this,
        "hold-back",
        "write down the gold that is not trained on",
        _module("finetune.roads.held_back", this.data, *gold, "--out", *this.held_back),
        inputs=(this.data / "valid.jsonl", *map(Path, this.config.gold)),
        outputs=this.held_back,
        code=("finetune/roads/held_back.py", "finetune/evaluation/gold.py", *_READING),
    )


def _export(this: Lap) -> Step:
    types = ",".join(this.config.types)
    arguments = ["--base", _base_name(this), "--types", types, "--serve", this.config.types[-1], "--name", this.name]
    arguments += [f"--held-back={path}" for path in this.held_back]
    # eval.py names a set after its file
    arguments += ["--gate-set", Path(this.config.held_out).stem, "--gate-minimum", str(this.config.minimum)]
    made = [this.folder / name for name in ("Modelfile", "parity.json", "export.json")]
    return _step(
        this,
        "export",
        f"merge, convert, quantise ({types}), check parity, write the Modelfile and a candidate",
        _module("finetune.export", this.model, *arguments, "--out", this.folder),
        inputs=(this.model / "adapter", this.model / "lineage.json", *_base(this), *this.held_back),
        outputs=(this.merged, *this.ggufs, *made, *this.serving),
        code=_EXPORTING,
    )


def _evaluate(this: Lap) -> Step:
    config = this.config
    models = [str(path) for form in config.score for path in this.forms[form]]
    plot = this.folder / "scores.svg"
    arguments = ["--models", ",".join([*models, *config.compare]), "--gold", config.held_out]
    arguments += [f"--linear={path}" for path in config.gold[:1] if config.linear and path.endswith(".jsonl")]
    return _step(
        this,
        "evaluate",
        "score all its forms on the evaluation set",
        ("finetune/eval.py", "annotate", *arguments, "-o", str(this.scores), "--plot", str(plot)),
        inputs=(*(path for form in config.score for path in this.forms[form]), Path(config.held_out), *this.serving),
        outputs=(this.scores, plot),
        code=_EVALUATING,
        partly=(1,),
    )


def _gate(this: Lap) -> Step:
    verdict, promote = this.folder / "gate.json", ["--promote"] if this.config.promote else []
    return _step(
        this,
        "gate",
        "write the scores into the registry" + (", serve it if it passes the gate" if promote else ""),
        _module("finetune.roads.gate", this.name, "--scores", this.scores, *promote, "--out", verdict),
        inputs=(this.scores, this.folder / "export.json"),
        outputs=(verdict,),
        code=("finetune/roads/gate.py", "harness/registry.py", "harness/registry_gate.py"),
    )


def _base_name(this: Lap) -> str:
    """The base that the trainer's configuration names. Raises InputError or UsageError."""
    from finetune.sft.config import load

    return load(Path(this.config.train), _pairs(this.config.settings)).base


def _base(this: Lap) -> tuple[Path, ...]:
    """The base's folder; a model of the hub is told by its name alone, for training itself may put it into the cache."""
    from finetune.sft.base import find

    base = find(_base_name(this))
    return (base.folder,) if base.folder is not None and not base.is_cached else ()


def _pairs(values: Mapping[str, object]) -> list[str]:
    """``key=value`` as the trainer's ``--set`` takes it."""
    texts = {key: " ".join(map(str, value)) if isinstance(value, list) else value for key, value in values.items()}
    return [f"{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in texts.items()]


def _seed(config: RoadConfig) -> tuple[str, str]:
    return ("--seed", str(config.seed))


def _module(name: str, *arguments: object) -> tuple[str, ...]:
    return ("-m", name, *map(str, arguments))
