"""finetune/eval.py ask: what is counted of an answer, and models of Ollama, folders and GGUFs compared on questions."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ask_samples import said
from ollama_replies import Body
from ollama_server import OllamaServer

from finetune import eval as command
from finetune.dataset.qa_rows import Pair
from finetune.evaluation import ask_scores as scores
from finetune.evaluation.ask_gold import read_questions
from finetune.evaluation.ask_judge import RUBRIC
from finetune.evaluation.ask_perplexity import surprise, target
from harness.errors import Exit, InputError
from skills.ask.abstain import NOT_ANSWERED

pytest.importorskip("sacrebleu")
pytest.importorskip("rouge_score")

CROPS = ("rye", "oats", "barley", "wheat", "millet", "maize", "spelt", "sorghum")
Run = Callable[..., tuple[int, dict[str, Any]]]


def found_in(crop: str) -> str:
    return f"The yield of {crop} rose by {12 + CROPS.index(crop)} kg after an early harvest."


ROWS: list[dict[str, Any]] = [
    {
        "question": f"By how much did the yield of {crop} rise after an early harvest?",
        "answer": found_in(crop),
        "reasoning": f"The trial on {crop} says so.",
        "contexts": [f"We cut {crop} in the first week of July. {found_in(crop)} Straw of {crop} was not weighed."],
        "paper": crop,
        "title": f"On {crop}",
    }
    for crop in CROPS
] + [{"question": "Which robots watered the orchids at night?", "answered": False}]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder and a data folder of its own, no daemon, and a file of questions."""
    monkeypatch.setenv("MARGINALIA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    monkeypatch.setenv("MARGINALIA_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "q.jsonl", ROWS)
    return tmp_path


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """The command with ``--json``: exit code and report."""

    def run(*argv: str) -> tuple[int, dict[str, Any]]:
        status = command.main(["ask", "--questions", "q.jsonl", "--rounds", "200", *argv, "--json"])
        return status, json.loads(capsys.readouterr().out)

    return run


# ---- questions ----


def test_questions_of_ours_and_of_qasa_are_read_alike(place: Path) -> None:
    pairs, remarks = read_questions([place / "q.jsonl", place / "q.jsonl"])
    assert len(pairs) == len(ROWS)
    assert remarks == [f"questions left out: asked twice: {len(ROWS)}"]
    assert [pair.answered for pair in pairs] == [True] * len(CROPS) + [False]
    record = {
        "question": "Why?",
        "composition": "Rain.",
        "evidential_info": [{"context": "It rained.", "rationale": "Rain came."}],
    }
    (place / "qasa.json").write_text(json.dumps({"0": record, "1": {**record, "evidential_info": []}}, indent=1))
    (pair, other), _ = read_questions([place / "qasa.json"])
    assert (pair.answer, pair.contexts, pair.answered) == ("Rain.", ("It rained.",), True)
    assert not other.answered
    assert len(read_questions([place / "q.jsonl"], limit=2)[0]) == 2


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ('{"question": "a?", "answer": "b", "answered": true}', "line 2: is answered and has no evidence"),
        ('{"question": "", "answered": false}', "line 2: 'question' is empty"),
        ('{"question": "a?", "answer": "b", "contexts": [1]}', "line 2: 'contexts' is no list of texts"),
        ("no json", "line 2: is no JSON"),
    ],
)
def test_a_wrong_question_is_one_line(place: Path, row: str, problem: str) -> None:
    (place / "bad.jsonl").write_text(json.dumps(ROWS[0]) + "\n" + row + "\n")
    with pytest.raises(InputError, match=problem):
        read_questions([place / "bad.jsonl"])


# ---- what is counted ----


def pair_of(answer: str, *contexts: str) -> Pair:
    return Pair("1", "q", "", answer, contexts, "p", answered=bool(contexts))


def record_of(answer: str, *quotes: str, abstained: bool = False) -> dict[str, Any]:
    return {"answer": answer, "abstained": abstained, "citations": [{"n": 1, "quote": quote} for quote in quotes]}


def test_bleu_of_sums_is_sacrebleus_of_the_corpus() -> None:
    import sacrebleu

    references = ["The rye grew fast on dry sand.", "Oats, however, did not grow at all here.", "No mould was found."]
    for answers in (
        ["The rye grew fast on wet sand. [1]", "Oats did not grow at all. [2]", ""],
        ["Rye grew.", "Mould.", "No mould."],
        ["", "", ""],
        references,
    ):
        rows = [scores.counts_of(pair_of(r, r), record_of(a)) for a, r in zip(answers, references, strict=True)]
        ours = scores.figures(scores.matrix(rows).sum(0))
        theirs = sacrebleu.corpus_bleu([scores.unmarked(one) for one in answers], [references]).score
        assert float(ours["bleu_4"]) == pytest.approx(theirs, abs=1e-6)


def test_a_sentence_is_factual_where_the_gold_evidence_has_it() -> None:
    gold = ("Rye grew 12.5% faster than oats on sandy soil.", "Barley was not watered at all in the dry years.")
    right = "Rye grew 12.5% faster than oats. Barley was not watered."
    assert scores.supported(right, gold) == {"sentences": 2, "supported": 2}
    assert scores.supported("Rye grew 14.5% faster than oats.", gold)["supported"] == 0
    assert scores.supported("Barley was watered in the dry years.", gold)["supported"] == 0
    assert scores.supported("Cats sleep in larch barns.", gold)["supported"] == 0


def test_citations_count_where_they_share_a_sentence_with_the_evidence() -> None:
    gold = ("Rye grew fast on sand. Straw was not weighed.",)
    assert scores.on_gold("Rye grew fast on sand.", gold)
    assert scores.on_gold("Before it rained. Rye grew fast on sand. Straw was not weighed.", gold)
    assert not scores.on_gold("Oats were stored in dry barns.", gold)
    counts = scores.counts_of(pair_of("Rye grew.", *gold), record_of("Rye grew fast. [1]", "Straw was not weighed.", "No."))
    assert (counts["cited"], counts["on_gold"]) == (2, 1)


def test_abstaining_is_counted_right_and_wrong() -> None:
    answerable, other = pair_of("Rye grew.", "Rye grew."), pair_of("")
    none, some = record_of(NOT_ANSWERED, abstained=True), record_of("Rye grew.")
    rows = [scores.counts_of(*one) for one in ((answerable, none), (answerable, some), (other, none), (other, some))]
    found = scores.figures(scores.matrix(rows).sum(0))
    assert [float(found[f"abstention_{name}"]) for name in ("precision", "recall", "f1")] == [0.5, 0.5, 0.5]
    assert rows[0]["words"] == 0
    assert rows[0]["reference_words"] > 0  # an abstention is an empty answer
    assert rows[3]["reference_words"] == rows[3]["sentences"] == 0
    assert np.isnan(scores.figures(scores.matrix(rows[:2]).sum(0))["abstention_recall"])


def test_a_paired_difference_is_surer_than_two_intervals() -> None:
    dice = np.random.default_rng(1)
    rows = [dict.fromkeys(scores.COLUMNS, 0.0) | {"rouge": float(v), "rouged": 1.0} for v in dice.uniform(0.1, 0.8, 60)]
    better = [row | {"rouge": row["rouge"] + 0.05} for row in rows]
    first, second = scores.matrix(better), scores.matrix(rows)
    apart = scores.differences(first, second, rounds=300)
    assert apart["rouge_l"] is not None
    assert apart["rouge_l"].low > 0.04
    assert scores.verdict("rouge_l", apart["rouge_l"]) == "better"
    assert scores.verdict("perplexity", apart["rouge_l"]) == "worse"
    alone = scores.estimates(first, rounds=300)["rouge_l"]
    assert alone is not None
    assert alone.high - alone.low > 0.05
    assert apart["depth"] is None
    with pytest.raises(ValueError, match="not of the same questions"):
        scores.differences(first, second[:-1])


# ---- models ----


def as_asked(body: Body, *, wrong: bool) -> str:
    """What a chat model says: the figure of the crop that is asked for, or a wrong one."""
    asked = body["messages"][1]["content"]  # where a repair is asked for, the last one is a complaint
    crop = next(one for one in CROPS if f"yield of {one} rise" in asked)
    passages = [json.loads(line) for line in asked.splitlines() if line.startswith("{")]
    right = next(one for one in passages if found_in(crop) in one["text"])
    other = next(one for one in passages if one is not right)
    text = found_in(crop)
    if wrong:
        return said((f"Straw of {crop} was not weighed.", [(other["n"], other["text"][:60])]))
    return said((text, [(right["n"], text)]))


def answered_by(body: Body) -> Iterator[str]:
    """Three models of one daemon: one that answers beside the point, one that answers, one that grades."""
    if body["model"].startswith("judge"):
        graded, _ = json.JSONDecoder().raw_decode(body["messages"][-1]["content"])  # the schema stands behind it
        score = 4 if graded["answer"] == graded["reference"] else 1
        yield json.dumps({"reason": "It gives the figure." if score == 4 else "It gives none.", "score": score})
    elif "Statement:" in body["messages"][-1]["content"]:
        yield "no"
    else:
        yield as_asked(body, wrong=body["model"].startswith("base"))


def test_base_and_tuned_are_compared_in_pairs(place: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with OllamaServer(answered_by) as server:
        for name in ("base:1b", "tuned:1b", "judge:1b"):
            server.add(name, context=8192)
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        status, found = run("--models", "base:1b,tuned:1b,extractive", "--judge", "judge:1b", "-o", "scores.json")
        assert status == Exit.DONE
        asked = len(server.bodies("/api/chat"))
        again, same = run("--models", "base:1b,tuned:1b,extractive", "--judge", "judge:1b")
        assert len(server.bodies("/api/chat")) == asked  # all from the journal
        assert (again, same) == (status, found)
    assert json.loads(Path("scores.json").read_text()) == found
    assert (found["questions"], found["unanswerable"]) == (9, 1)
    base, tuned, extractive = found["models"]
    value = {name: figures[0] for name, figures in tuned["scores"].items() if figures}
    assert value == pytest.approx(
        dict.fromkeys(("rouge_l", "factual_accuracy", "citation_precision", "abstention_recall"), 1)
        | {"abstention_precision": 1, "abstention_f1": 1, "bleu_4": 100, "depth": 4}
    )
    assert tuned["scores"]["perplexity"] is None
    assert base["scores"]["depth"][0] == 1
    assert base["scores"]["rouge_l"][0] < 0.5
    assert extractive["place"] == "sentences"
    assert extractive["scores"]["factual_accuracy"][0] > 0.7
    first = found["differences"][0]
    assert (first["model"], first["against"]) == ("tuned:1b", "base:1b")
    assert first["verdicts"]["depth"] == first["verdicts"]["rouge_l"] == "better"
    assert first["scores"]["depth"] == [3, 3, 3]
    assert tuned["latency"][0] <= tuned["latency"][1]


def test_the_tables_are_for_people(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["ask", "--models", "extractive", "--questions", "q.jsonl", "--rounds", "100", "-v"]
    assert command.main(argv) == Exit.DONE
    shown = capsys.readouterr().out
    assert "9 questions, 1 of them not answered" in shown
    assert "factual accuracy" in shown
    assert "not measured" in shown  # perplexity and depth
    assert "Which robots watered" in shown


def test_a_judge_without_a_grade_is_told(place: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def grades(body: Body) -> Iterator[str]:
        yield json.dumps({"reason": "Fine.", "score": max(RUBRIC) + 1})

    with OllamaServer(grades) as server:
        server.add("judge:1b", context=8192)
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        status, found = run("--models", "extractive", "--judge", "judge:1b")
    assert status == Exit.FAILED
    assert found["models"][0]["scores"]["depth"] is None
    assert found["models"][0]["not_judged"] == len(CROPS)


def test_models_that_cannot_be_opened_do_not_stop_the_others(place: Path, run: Run) -> None:
    status, found = run("--models", "extractive,not-here.gguf")
    assert status == Exit.FAILED
    assert [model["model"] for model in found["models"]] == ["extractive"]
    assert command.main(["ask", "--models", "extractive,extractive", "--questions", "q.jsonl"]) == Exit.USAGE
    assert command.main(["ask", "--models", "extractive", "--questions", "q.jsonl", "--threshold", "2"]) == Exit.USAGE


# ---- perplexity ----


def test_the_reference_stands_in_the_contracts_own_json() -> None:
    before, text = target(Pair("1", "q", 'It is "so".', 'A "b" \\ c.', ("x",), "p"))
    data = json.loads(before + text + '"}]}')
    assert data["answer"][0]["text"] == 'A "b" \\ c.'
    assert data["reasoning"] == 'It is "so".'


def test_a_folder_and_its_gguf_give_the_perplexity_of_its_logits(place: Path) -> None:
    pytest.importorskip("transformers")
    import tiny_hf
    import torch

    from finetune.convert_gguf import convert
    from finetune.evaluation.torch_model import TorchModel
    from harness.models.embedded import EmbeddedModel
    from skills.ask import prompt

    tokenizer = tiny_hf.make_tokenizer()
    shape = {"max_position_embeddings": 4096}
    weights = tiny_hf.make_folder(place / "hf", "Qwen3", tokenizer, tied=True, shape=shape)
    pair = pair_of("Rye grew.", "Rye grew fast.")
    model = TorchModel(place / "hf", name="tiny", threads=1)
    try:
        nats, tokens = surprise(model, pair) or (0.0, 0)
    finally:
        model.close()
    before, text = target(pair)
    from finetune.dataset.qa_rows import passage

    chat = [vars(one) for one in prompt.messages(pair.question, [passage("Rye grew fast.", 1, "")])]
    rendered = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    given, ids = (tokenizer(part, add_special_tokens=False)["input_ids"] for part in (rendered + before, text))
    with torch.no_grad():
        logp = torch.log_softmax(weights(torch.tensor([given + ids])).logits[0].double(), -1)
    expected = -sum(float(logp[len(given) + place - 1, token]) for place, token in enumerate(ids))
    assert tokens == len(ids)
    assert nats == pytest.approx(expected, rel=1e-3)
    embedded = EmbeddedModel(convert(place / "hf", place / "tiny.gguf", "f32"), name="tiny", threads=1, slots=1)
    try:
        forced, pieces = surprise(embedded, pair) or (0.0, 0)
    finally:
        embedded.close()
    assert pieces >= tokens  # the tokenizer's own are the longest
    assert 1 < math.exp(forced / pieces) < math.inf


def test_a_gguf_is_scored_with_perplexity(place: Path, run: Run) -> None:
    import tiny_gguf

    path = tiny_gguf.write_tiny_gguf(place / "tiny.gguf", tiny_gguf.Shape(context=8192), spread=0.1)
    write(place / "q.jsonl", [ROWS[0], ROWS[-1]])
    status, found = run("--models", f"extractive,{path}")
    model = found["models"][1]
    errors: Mapping[str, str] = {row["id"]: row["error"] for row in model["rows"] if row["error"]}
    assert status == (Exit.FAILED if errors else Exit.DONE)  # noise is seldom an answer
    assert model["place"] == "embedded"
    assert 1 < model["scores"]["perplexity"][0] < 1e6
    assert found["differences"][0]["scores"]["perplexity"] is None
