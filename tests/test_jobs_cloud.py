"""The cloud scripts: one file each, made of this checkout and of nothing else of it when they run."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from expansion_samples import EXAMPLES, gold

from finetune.dataset.expansion_split import row
from finetune.evaluation.expansion_queries import DEFAULT, read_queries
from finetune.jobs import build
from finetune.jobs.source import eval_common, grpo, sft
from finetune.rewards.qmd import cases
from finetune.run_config import load as load_config
from harness.errors import InputError
from skills.expand.prompt import completion, parse_query, render_prompt

RUN = """
import json, runpy, sys
script, *sys.argv[1:] = sys.argv[1:]
sys.argv[0] = script
try:
    runpy.run_path(script, run_name="__main__")
except SystemExit as end:
    code = end.code
names = [name for name in sys.modules if name.split(".")[0] in ("finetune", "harness", "skills")]
ours = {name: getattr(sys.modules[name], "__file__", None) for name in names}
foreign = {name: file for name, file in ours.items() if file and not file.startswith("carried/")}
sys.stderr.write(json.dumps({"code": code, "carried": len(ours) - len(foreign), "foreign": foreign}))
"""


def alone(place: Path, name: str, *argv: str, bare: bool = False) -> tuple[str, dict[str, Any]]:
    """Run a copy of a script where no checkout is; what it printed and imported. ``bare``: without site packages."""
    shutil.copy(build.HERE / f"{name}.py", place)
    command = [sys.executable, "-I", *(["-S"] if bare else []), "-c", RUN, f"{name}.py", *argv]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(done.stderr.splitlines()[-1])


def test_the_scripts_are_what_the_checkout_gives() -> None:
    assert build.stale() == [], "run: python finetune/jobs/build.py"


def test_a_change_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "source").symlink_to(build.HERE / "source")
    for name in build.SCRIPTS:
        shutil.copy(build.HERE / f"{name}.py", tmp_path)
    monkeypatch.setattr(build, "HERE", tmp_path)
    assert build.main(["--check"]) == 0
    text = (tmp_path / "grpo.py").read_text(encoding="utf-8")
    (tmp_path / "grpo.py").write_text(text.replace("beta", "gamma", 1), encoding="utf-8")
    assert build.main(["--check"]) == 1
    assert "grpo.py is not up to date" in capsys.readouterr().out
    assert build.main([]) == 0
    assert build.stale() == []


@pytest.mark.parametrize("name", build.SCRIPTS)
def test_a_script_names_what_it_needs(name: str) -> None:
    text = (build.HERE / f"{name}.py").read_text(encoding="utf-8")
    block = re.search(r"(?m)^# /// script\n((?:#(?: .*)?\n)+)# ///$", text)
    assert block
    metadata = tomllib.loads("".join(line[2:] for line in block[1].splitlines(keepends=True)))
    assert metadata["requires-python"] == ">=3.11"
    imported = set(re.findall(r"(?m)^\s*(?:from|import) (torch|trl|peft|datasets|transformers|yaml|gguf)\b", text))
    named = " ".join(metadata["dependencies"]).replace("pyyaml", "yaml")
    assert name in ("quantize", "eval", "eval_common") or {"torch", "trl", "peft", "datasets", "yaml"} <= imported
    if name in ("sft", "grpo"):
        assert all(one in named for one in imported)


@pytest.mark.parametrize("name", build.SCRIPTS)
def test_a_script_stands_alone(name: str, tmp_path: Path) -> None:
    out, found = alone(tmp_path, name, "--dry-run", bare=name in ("eval", "eval_common"))
    assert found["code"] == 0
    assert found["foreign"] == {}
    assert found["carried"] > 5
    shown = json.loads(out)
    if name != "quantize":
        assert shown["prompt"] in (render_prompt(parse_query("auth config")), render_prompt(read_queries(DEFAULT)[0].query))
    helped, found = alone(tmp_path, name, "--help", bare=name in ("eval", "eval_common"))
    assert found["code"] == 0
    assert "hf jobs uv run" in helped or name == "eval_common"


def test_the_carried_reward_gives_the_same_numbers(tmp_path: Path) -> None:
    rows = [{"query": case.query, "text": case.output} for case in cases()]
    (tmp_path / "cases.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    _, found = alone(tmp_path, "eval_common", "cases.jsonl", "-o", "scores.json", bare=True)
    assert found["code"] == 0
    scores = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert [one["percentage"] for one in scores] == [case.percentage for case in cases()]
    assert [one["format"] for one in scores] == [case.points[0] for case in cases()]


def test_queries_and_prompts_are_those_of_the_checkout() -> None:
    assert eval_common.our_queries() == [(one.category, one.text) for one in read_queries(DEFAULT)]
    for example in EXAMPLES[:3]:
        made = eval_common.trained(row(example, intent=False))
        assert made["prompt"] == render_prompt(parse_query(example.full_query))
        assert made["completion"] == completion(example.lines)
    with pytest.raises(SystemExit, match="is no prompt of contract"):
        eval_common.trained({"prompt": [{"role": "user", "content": "hi"}], "completion": ""})


def test_values_are_those_of_the_configurations() -> None:
    from finetune.grpo.config import GrpoConfig
    from finetune.grpo.config import parse as parse_grpo

    asked = sft.arguments(sft.values([]), "out", cuda=True)
    assert (asked["num_train_epochs"], asked["learning_rate"], asked["max_length"]) == (5, 2e-4, 512)
    assert (asked["per_device_train_batch_size"], asked["gradient_accumulation_steps"]) == (4, 4)
    values = sft.values(["beta=0.1"], grpo.FILES[0])
    config = load_config(GrpoConfig, parse_grpo, build.ROOT / grpo.FILES[0], ["beta=0.1"])
    asked = grpo.arguments(values, "out", cuda=True)
    assert (asked["beta"], asked["num_generations"], asked["max_steps"]) == (0.1, config.generations, config.steps)
    answers = asked["per_device_train_batch_size"] * asked["gradient_accumulation_steps"]
    assert answers == config.prompts * config.generations
    assert asked["per_device_train_batch_size"] % config.generations == 0
    assert sft.lora(values)["target_modules"] == list(config.lora_targets)
    with pytest.raises(SystemExit, match="--set epoch=1"):
        sft.values(["epoch=1"])


def test_training_does_not_start_where_the_reward_can_be_gamed(capsys: pytest.CaptureFixture[str]) -> None:
    found = grpo.golden([row(example, intent=False) for example in EXAMPLES])
    assert [(one.query, len(one.lines)) for one in found] == [(one.query, len(one.lines)) for one in gold()]
    reward = grpo.as_trl(grpo.reward_of(["strict", "qmd"], found))
    texts = [found[0].text, "lex: nothing"]
    assert reward(texts, query=[found[0].query] * 2, prompts=[])[0] > 0.5 > reward(texts, query=[found[0].query] * 2)[1]
    poor = [one._replace(lines=(("lex", f"{one.query} guide"), ("vec", f"a guide to {one.query}"))) for one in found]
    with pytest.raises(SystemExit, match="can be gamed"):
        grpo.reward_of(["qmd"], poor)
    with pytest.raises(SystemExit, match="beta 0"):
        grpo.main(["--set", "beta=0", "--dry-run"])
    assert grpo.main(["--set", "beta=0", "--force", "--dry-run"]) == 0
    assert "gold" in capsys.readouterr().out


def test_a_module_that_is_not_there_is_one_line() -> None:
    with pytest.raises(InputError, match=r"finetune\.nowhere: no such module"):
        build.carried(["finetune.nowhere"])
