"""QMD's rubric gives upstream's numbers: golden ones, and upstream's own code where MARGINALIA_QMD names a checkout."""

from __future__ import annotations

import importlib.util
import itertools
import json
import math
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.rewards import qmd

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data" / "expansion" / "qmd.jsonl"
COMPARED = (
    "format", "diversity", "hyde", "quality", "entity", "think_bonus", "total", "max_possible", "percentage", "rating",
    "parsed", "only_mode",
)  # fmt: skip
HELPERS_OF_A_TEXT = (
    "parse_expansion", "clean_model_output", "detect_only_mode", "extract_named_entities", "lex_is_generic",
    "word_repetition_penalty", "extract_query_from_prompt",
)  # fmt: skip
GOOD = (
    "hyde: Swifts sleep on the wing and land for little else than the nest, which lies under roof tiles.\n"
    "lex: swifts sleeping in flight\nlex: swifts nest roof tiles\n"
    "vec: where do swifts sleep during the months they spend in the air\n"
    "vec: how do swifts find their nest again each spring"
)


@pytest.mark.parametrize("case", qmd.cases(), ids=lambda case: case.name)
def test_golden_numbers(case: qmd.Case) -> None:
    found = qmd.score_expansion_detailed(case.query, case.output)
    names = ("format", "diversity", "hyde", "quality", "entity", "think_bonus")
    assert [found[name] for name in names] == case.points
    assert (found["total"], found["max_possible"], found["percentage"]) == (case.total, case.most, case.percentage)
    assert qmd.score_expansion(case.query, case.output) == pytest.approx(min(1, max(0, case.total / case.most)))


@pytest.mark.parametrize("case", [case for case in qmd.cases() if case.total], ids=lambda case: case.name)
def test_the_reasons_add_up_to_what_is_missing(case: qmd.Case) -> None:
    found = qmd.score(case.query, case.output)
    quoted = 3 if found.only is None and '"' in case.output and " " in case.query else 0
    hyde = 20 if found.max_possible == 140 else 0
    maxima = (30, 30, hyde, 20 + quoted, 20 if found.entities else 10, 20)
    for name, points, most in zip(
        ("format", "diversity", "hyde", "quality", "entity", "think"), found.points, maxima, strict=True
    ):
        lost = [re.match(rf"{name} -(\d+): .", reason) for reason in found.reasons]
        assert sum(int(match[1]) for match in lost if match) == most - points, (name, found.reasons)


def test_a_good_expansion_loses_nothing() -> None:
    found = qmd.score("where do swifts sleep", GOOD)
    assert not found.reasons
    assert (found.total, found.max_possible, found.rating) == (130, 140, "Excellent")


def test_the_reward_has_no_cap_on_echoes_although_the_percentage_has() -> None:
    found = qmd.score("swift nests", GOOD + "\nlex: swift nests")
    assert found.percentage == 50.0
    assert found.reasons[0].startswith("at most 50%")
    assert qmd.score_expansion("swift nests", GOOD + "\nlex: swift nests") == found.total / 140 > 0.75


def test_rating_follows_the_percentage_before_it_is_rounded() -> None:
    found = qmd.score("tide tables", GOOD)._replace(percentage=79.96)
    assert found.rating == "Good"
    assert round(found.percentage, 1) == 80.0


def test_parsed_of_a_failure_is_what_the_model_wrote() -> None:
    leaked = "lex: a<|im_end|>\nvec: b<|im_start|>"
    assert qmd.score_expansion_detailed("q", leaked)["parsed"]["lex"] == ["a<|im_end|>"]
    assert qmd.score_expansion_detailed("q /only:vec", "lex: a<|im_end|>")["parsed"]["lex"] == ["a"]


def test_trl_calls_it_with_texts_or_messages() -> None:
    prompt = (
        "<|im_start|>user\n/no_think Expand this search query: where do swifts sleep<|im_end|>\n<|im_start|>assistant\n"
    )
    expected = [130 / 140, 0.0]
    reward = qmd.QMDRewardFunction()
    assert reward(prompts=[prompt, prompt], completions=[GOOD, "no idea"], extra=[1, 2]) == expected
    chats = [[{"role": "user", "content": "/no_think Expand this search query: where do swifts sleep"}]] * 2
    answers = [[{"role": "assistant", "content": text}] for text in (GOOD, "no idea")]
    assert reward(prompts=chats, completions=answers) == expected
    assert reward.__name__ == "qmd_scoring_reward"


def test_trl_without_a_prompt_for_each_completion_is_an_error() -> None:
    with pytest.raises(ValueError, match="needs the prompts"):
        qmd.QMDRewardFunction()([GOOD])
    with pytest.raises(ValueError):
        qmd.QMDRewardFunction()([GOOD, GOOD], ["q"])


@pytest.mark.parametrize("script", ["finetune/rewards/qmd.py", "finetune/reward.py"])
def test_the_self_test_passes_as_a_script_from_anywhere(script: str, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, str(ROOT / script)], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"{len(qmd.cases())} of {len(qmd.cases())} as expected" in done.stdout


def test_a_wrong_number_fails_the_self_test(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(
        qmd, "cases", lambda: [qmd.Case("wrong", "tide tables", GOOD, [30, 30, 20, 20, 10, 20], 1, 140, 92.9)]
    )
    assert qmd.main() == 1
    assert "! wrong" in capsys.readouterr().out


def test_nothing_heavy_is_imported() -> None:
    code = "import sys, finetune.rewards.qmd, finetune.rewards.guard, finetune.rewards.strict, finetune.reward\n"
    code += "print(sorted({'torch', 'numpy', 'transformers', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


_WORDS = st.sampled_from(
    ["the", "KLM", "tide", "how to", "overview", '"', "é", "Σ", "lex:", "<think>", "</think>", "\n", "\t", " "]
)
_TEXTS = st.lists(st.one_of(_WORDS, st.text(max_size=12)), max_size=12).map(" ".join)


@settings(max_examples=200, deadline=None)
@given(query=_TEXTS, lines=st.lists(st.tuples(st.sampled_from(["lex", "vec", "hyde"]), _TEXTS), max_size=6))
def test_the_reward_is_that_of_the_breakdown_whatever_the_text(query: str, lines: list[tuple[str, str]]) -> None:
    text = "\n".join(f"{kind}: {body}" for kind, body in lines)
    reward, found = qmd.score_expansion(query, text), qmd.score(query, text)
    assert reward == found.reward
    assert 0 <= reward <= 1
    assert 0 <= found.percentage <= 100
    assert math.isclose(found.total, max(sum(found.points), found.total))


# ---- against upstream's own code ----


def upstream() -> ModuleType:
    """``finetune/reward.py`` of the checkout that MARGINALIA_QMD names; skips without one."""
    folder = os.environ.get("MARGINALIA_QMD")
    if not folder:
        pytest.skip("MARGINALIA_QMD names no checkout of github.com/tobi/qmd")
    spec = importlib.util.spec_from_file_location("upstream_reward", Path(folder) / "finetune" / "reward.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def mutations(query: str, lines: list[list[str]], other: list[list[str]], dice: random.Random) -> Iterator[tuple[str, str]]:
    """A gold row as it is, and as broken models, odd users and other encodings would have it."""
    rows = [f"{kind}: {text}" for kind, text in lines]
    text = "\n".join(rows)
    bare = re.sub(r"\s*/?only:\s*\w+\s*$", "", query)
    yield query, text
    for kind in ("lex", "vec", "hyde"):
        yield f"{bare} /only:{kind}", text
        yield f"{bare} /Only:{kind.upper()} ", "\n".join(row for row in rows if row.startswith(kind))
    yield bare, "\n".join(f"{kind}: {body}" for kind, body in other)
    yield bare, "\n".join(dice.sample(rows, len(rows)))
    yield bare, text[: dice.randrange(len(text) + 1)]
    yield bare, "\n".join(row for row in rows if dice.random() < 0.6)
    yield bare, "\n".join([*rows, *dice.choices(rows, k=3)])
    for kind in ("lex", "vec", "hyde"):
        yield bare, f"{text}\n{kind}: {bare}"
        yield bare, f"{text}\n{kind}: {bare.upper()} x"
    yield bare, f"<think>{text[:20]}</think>\n{text}"
    yield bare, f"<think>{text}"
    yield bare, f"{text}</think><think>"
    for token in ("<|im_start|>", "<|im_end|>", "<|endoftext|>", "\nassistant\n", "\nuser\n", "<|im<|im_end|>_end|>", "<|"):
        at = dice.randrange(len(text) + 1)
        yield bare, text[:at] + token + text[at:]
    yield bare.title(), text
    yield bare.upper(), text
    yield f"Configure {bare} C++ node.js, (API) über Σίσυφος?", text.replace(" ", " Σίσυφος ", 2)
    yield bare, text.title().replace("Lex:", "lex:").replace("Vec:", "vec:").replace("Hyde:", "hyde:")
    yield bare, text.replace(" ", "\u00a0", 3).replace("a", "é", 4).replace("e", "\u0130", 1)
    yield bare, text.replace("\n", "\r\n  \n\t")
    yield bare, text.replace(": ", ":").replace("lex:", "lex: overview ", 1)
    yield bare, text.replace("lex: ", 'lex: how to "', 1)
    yield (
        bare,
        text.replace("hyde: ", "hyde: " + dice.choice(text.split()) + " ", 1).replace(
            ". ", " the the the brine brine brine. "
        ),
    )
    yield f"  {bare}\t", f"\n\n{text}\n"
    yield "", text
    yield bare, ""
    yield bare, "lex: how to\nlex: find information about it\nvec: guide"


def differences(theirs: ModuleType, query: str, text: str) -> list[str]:
    """What differs between upstream and us on one output."""
    expected, found = theirs.score_expansion_detailed(query, text), qmd.score_expansion_detailed(query, text)
    wrong = [name for name in COMPARED if expected[name] != found[name]]
    if set(expected["entities_detected"]) != set(found["entities_detected"]):
        wrong.append("entities_detected")
    if theirs.score_expansion(query, text) != qmd.score_expansion(query, text):
        wrong.append("reward")
    if expected["deductions"] and not found["deductions"]:
        wrong.append("deductions")
    for name in HELPERS_OF_A_TEXT:
        for value in (query, text):
            if getattr(theirs, name)(value) != getattr(qmd, name)(value):
                wrong.append(name)
    lines = [line.partition(":")[2] for line in text.split("\n")]
    for first, second in itertools.pairwise(lines):
        for distance in (2, 3):
            if theirs.is_diverse(first, second, distance) != qmd.is_diverse(first, second, distance):
                wrong.append("is_diverse")
        if theirs.echoes_query(first, query) != qmd.echoes_query(first, query):
            wrong.append("echoes_query")
    return wrong


def compare(theirs: ModuleType, rows: list[dict[str, Any]], seed: int = 0) -> tuple[int, list[tuple[str, str, list[str]]]]:
    """How many outputs were compared, and those that differ."""
    dice, count, wrong = random.Random(seed), 0, []
    for row in rows:
        for query, text in mutations(row["query"], row["output"], dice.choice(rows)["output"], dice):
            count += 1
            if found := differences(theirs, query, text):
                wrong.append((query, text, found))
    return count, wrong


def test_upstream_agrees_on_the_cases_and_their_mutations() -> None:
    rows: list[dict[str, Any]] = []
    for case in qmd.cases():
        parsed = qmd.parse_expansion(case.output)
        lines = [[kind, text] for kind in ("hyde", "lex", "vec") for text in parsed[kind]]  # type: ignore[literal-required]
        rows.append({"query": case.query, "output": lines or [["lex", case.output]]})
    count, wrong = compare(upstream(), rows)
    assert count > 1500
    assert wrong == []


def test_upstream_agrees_on_a_sample_of_the_data_and_its_mutations() -> None:
    theirs = upstream()
    if not DATA.exists():
        pytest.skip(f"{DATA} is not there")
    rows = [json.loads(line) for line in DATA.read_text(encoding="utf-8").splitlines()][::40]
    count, wrong = compare(theirs, rows)
    assert count > 2000
    assert wrong == []
