"""GRPO end to end on a base of a few thousand random parameters: refusals, a run, going on after a kill, a dry run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("peft", reason="needs the finetune extra")
torch = pytest.importorskip("torch", reason="needs the finetune extra")

from expansion_samples import EXAMPLES  # noqa: E402
from sft_helpers import make_base  # noqa: E402

from finetune.dataset.expansion_schema import Example  # noqa: E402
from finetune.dataset.expansion_split import row  # noqa: E402
from finetune.grpo import config as configs  # noqa: E402
from finetune.grpo import run as runs  # noqa: E402
from finetune.grpo.config import GrpoConfig  # noqa: E402
from finetune.sft import checkpoints  # noqa: E402
from finetune.sft.run import Run  # noqa: E402
from finetune.train import CONFIGS, config_file, main  # noqa: E402
from harness.console import stderr_console  # noqa: E402
from harness.errors import InputError, UsageError  # noqa: E402
from skills.expand.prompt import CONTRACT  # noqa: E402

SMOKE = Path(__file__).resolve().parent.parent / "finetune" / "configs" / "smoke-qmd-grpo.yaml"


def write_folder(folder: Path, examples: list[Example] = EXAMPLES) -> Path:
    """A data folder of prepare_data.py's shape: invented gold, the last four rows for validation."""
    folder.mkdir()
    for name, some in (("train", examples[:-4]), ("valid", examples[-4:])):
        rows = [row(one, intent=True) for one in some]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    (folder / "card.json").write_text(json.dumps({"contract": CONTRACT}), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, data, and an uninterrupted run of all weights."""
    folder = tmp_path_factory.mktemp("grpo")
    make_base(folder / "base")
    write_folder(folder / "data")
    runs.grpo(settings(folder, "whole"), Run(offline=True), stderr_console())
    return folder


def judge(self: Any, examples: Any, answers: Any) -> list[dict[str, float]]:
    """A reward that random weights get some of: few tokens, said often. (Theirs for expansions is 0 throughout.)"""
    shares = [1 - len(set(one.ids.tolist())) / len(one.ids) for one in answers]
    return [
        {"reward": share, "strict": share, "ended": float(one.ended)} for share, one in zip(shares, answers, strict=True)
    ]


@pytest.fixture(scope="module", autouse=True)
def judged() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("finetune.grpo.trainer.Trainer.judge", judge)
        yield


def settings(root: Path, out: str, *changes: str) -> GrpoConfig:
    places = [f"base={root / 'base'}", f"data={root / 'data'}", f"out={root / out}"]
    return configs.load(SMOKE, [*places, *changes])


def load_file(path: Path) -> dict[str, Any]:
    from safetensors.torch import load_file as load

    found: dict[str, Any] = load(path)
    return found


def weights(folder: Path) -> dict[str, Any]:
    return load_file(folder / "model" / "model.safetensors")


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_run_leaves_a_model_metrics_and_its_lineage(root: Path) -> None:
    out = root / "whole"
    entries = metrics(out)
    assert [entry["step"] for entry in entries if "eval_reward" in entry] == [0, 2, 4]
    steps = [entry for entry in entries if "kl" in entry]
    assert [entry["step"] for entry in steps] == [1, 2, 3, 4]
    assert steps[0]["kl"] == 0  # the policy is its reference
    assert steps[-1]["kl"] > 0  # and moves away from it
    assert all(0 <= entry["reward"] <= 1 for entry in steps)
    summary = json.loads((out / "train.json").read_text())
    assert summary["steps"] == 4
    lineage = json.loads((out / "model" / "lineage.json").read_text())
    assert set(lineage) == {"base", "data", "config", "model"}
    tokenizer = json.loads((out / "model" / "tokenizer_config.json").read_text())
    assert tokenizer["eos_token"] == "<|im_end|>"


def test_a_killed_run_goes_on_to_the_same_weights(root: Path) -> None:
    out = root / "killed"
    runs.grpo(settings(root, "killed"), Run(offline=True), stderr_console())
    folder = out / "checkpoint-2"
    assert checkpoints.fault(folder) == ""
    for name in ("train.json", "best.pt", "metrics.jsonl"):  # as if killed right after the checkpoint
        (out / name).unlink()
    runs.grpo(settings(root, "killed"), Run(resume="auto", offline=True), stderr_console())
    assert json.loads((out / "train.json").read_text())["resumed_from"] == "checkpoint-2"
    ours, whole = weights(out), weights(root / "whole")
    assert ours.keys() == whole.keys()
    assert all(torch.equal(ours[name], whole[name]) for name in ours)
    base = load_file(root / "base" / "model.safetensors")
    assert not all(torch.equal(ours[name], base[name]) for name in base)
    assert metrics(out) == metrics(root / "whole")


def test_another_configuration_is_not_gone_on_with(root: Path) -> None:
    with pytest.raises(InputError, match=r"another configuration \(beta was 0.04\)"):
        runs.grpo(settings(root, "whole", "beta=0.1"), Run(resume="auto", offline=True), stderr_console())


def test_an_adapter_leaves_the_base_as_it_is(root: Path) -> None:
    config = settings(root, "lora", "tuning=lora", "steps=2", "lora_targets=q_proj,v_proj")
    runs.grpo(config, Run(offline=True), stderr_console())
    described = json.loads((root / "lora" / "adapter" / "adapter_config.json").read_text())
    assert (described["r"], described["lora_alpha"], described["target_modules"]) == (4, 8, ["q_proj", "v_proj"])
    assert not (root / "lora" / "model").exists()


def test_beta_zero_is_refused_unless_forced(root: Path) -> None:
    config = settings(root, "free", "beta=0")
    with pytest.raises(UsageError, match="beta 0"):
        runs.grpo(config, Run(offline=True), stderr_console())
    runs.dry_run(config, force=True)


def test_a_reward_that_can_be_gamed_is_refused(root: Path) -> None:
    def longer(one: Example) -> Example:  # as passages of QMD's own gold are, which the rubric likes less than a template's
        lines = tuple((kind, f"{text} {text.lower()}" if kind == "hyde" else text) for kind, text in one.output)
        return one.model_copy(update={"output": lines})

    data = write_folder(root / "long", [longer(one) for one in EXAMPLES])
    with pytest.raises(InputError, match="the reward can be gamed"):
        runs.grpo(settings(root, "gamed", "rewards=qmd", f"data={data}"), Run(offline=True), stderr_console())
    assert not (root / "gamed" / "model").exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("rewards=style", "there is no 'style'"),
        ("generations=1", "generations 1"),
        ("eval_steps=3", "no multiple"),
        ("temprature=1", "did you mean temperature"),
        ("learning_rate=-1", "too small"),
    ],
)
def test_wrong_values_are_one_line(root: Path, change: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        settings(root, "x", change)


def test_a_dry_run_shows_the_guard_and_trains_nothing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = [f"base={root / 'base'}", f"data={root / 'data'}", f"out={root / 'dry'}"]
    changes = [word for place in places for word in ("--set", place)]
    assert main(["grpo", "--config", str(SMOKE), "--dry-run", *changes]) == 0
    told = capsys.readouterr().out
    assert "fixed template" in told
    assert "/no_think Expand this search query: " in told
    assert not (root / "dry").exists()


def test_a_dry_run_of_what_is_still_to_come(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """QMD's own command, before SFT has made the base and anyone the data."""
    places = [f"base={root / 'nobase'}", f"data={root / 'nodata'}"]
    changes = [word for place in places for word in ("--set", place)]
    assert main(["grpo", "--config", "configs/grpo.yaml", "--dry-run", *changes]) == 0
    told = capsys.readouterr().out
    assert "3,200 answers" in told  # 200 steps, 4 queries, 4 answers each
    assert "nobase: no such base folder" in told
    assert "prepare_data.py" in told
    assert main(["grpo", "--config", "configs/grpo.yaml", "--dry-run", "--set", f"base={root / 'nobase'}",
                 "--set", f"data={root / 'data'}"]) == 0  # fmt: skip
    assert "the reward against its adversaries" in capsys.readouterr().out
    (root / "broken").mkdir()
    assert main(["grpo", str(SMOKE), "--dry-run", "--set", f"data={root / 'broken'}"]) == 1
    assert "card.json" in capsys.readouterr().err


def test_files_go_by_the_names_that_the_reports_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert config_file(Path("configs/sft.yaml")) == CONFIGS / "qmd-sft.yaml"
    assert config_file(Path("finetune/configs/grpo.yaml")) == CONFIGS / "qmd-grpo.yaml"
    assert config_file(Path("mini.yaml")) == CONFIGS / "mini.yaml"
    assert config_file(Path("mine/sft.yaml")) == Path("mine/sft.yaml")  # somebody's own, that is not there
    monkeypatch.chdir(tmp_path)
    Path("sft.yaml").write_text("base: x\n")
    assert config_file(Path("sft.yaml")) == Path("sft.yaml")


def test_a_file_must_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["grpo"]) == 2
    assert "no file given" in capsys.readouterr().err
