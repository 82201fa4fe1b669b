"""finetune/eval.py expand: queries in, scores out, by real models: one of Ollama, a GGUF file, folders of training."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_gguf
from expansion_samples import GOOD, gold, write_lines
from ollama_server import OllamaServer

from finetune import eval as command
from finetune.dataset.expansion_schema import stem_of
from finetune.evaluation import expansion_scores as scores
from finetune.evaluation.expansion_queries import DEFAULT, EvalQuery, in_training, read_judged, read_queries
from finetune.evaluation.expansion_source import Expanded, of_text, read_expansions
from finetune.rewards.background import Background
from finetune.rewards.qmd import score
from finetune.rewards.strict import StrictReward
from harness.config import ROOT
from harness.errors import InputError
from skills.expand.prompt import END, Query, parse_query, render_prompt

SHARED = ROOT.parent / "shared" / "data" / "expansion"
CATEGORIES = "technical, short, named entities, personal, research, errors, temporal, complex, quoted, negation, only"
ROWS = [{"query": one.query, "output": one.lines} for one in gold()]
Run = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder and a data folder of its own, and no daemon."""
    monkeypatch.setenv("MARGINALIA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    monkeypatch.setenv("MARGINALIA_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """The command with ``--json``: exit code and report."""

    def run(*argv: str) -> tuple[int, dict[str, Any]]:
        status = command.main(["expand", *argv, "--json"])
        return status, json.loads(capsys.readouterr().out)

    return run


# ---- queries and figures ----


def test_our_queries_stand_under_the_categories_that_were_asked_for() -> None:
    queries = read_queries(DEFAULT)
    assert ", ".join(dict.fromkeys(one.category for one in queries)) == CATEGORIES
    assert len({stem_of(one.query.text) for one in queries}) == len(queries) >= 100
    assert all(one.query.only for one in queries if one.category == "only")
    assert all('"' in one.text for one in queries if one.category == "quoted")
    assert all(" -" in one.text for one in queries if one.category == "negation")


def test_our_queries_are_in_no_training_set() -> None:
    if not SHARED.exists():
        pytest.skip("needs the project's data beside the checkout")
    training = [json.loads(line)["query"] for line in (SHARED / "qmd.jsonl").read_text(encoding="utf-8").splitlines()]
    assert in_training(read_queries(DEFAULT), training) == set()


def test_a_query_of_training_is_found_in_other_words_forms() -> None:
    queries = [EvalQuery(parse_query(text)) for text in ("how to configure auth /only:lex", "tide tables")]
    assert in_training(queries, ["auth configuration"]) == {queries[0].query}


@pytest.mark.parametrize(
    ("text", "problem"),
    [("# category: a\n\n", "holds no queries"), ("tea\n!!\n", "line 2"), ("tea\ntea\n", "stands there twice")],
)
def test_a_file_of_queries_that_is_wrong_is_one_line(place: Path, text: str, problem: str) -> None:
    (place / "q.txt").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=problem):
        read_queries(place / "q.txt")


def test_rows_have_the_numbers_of_both_rewards() -> None:
    one = gold()[0]
    strict = StrictReward(Background.fit((row.query, row.lines) for row in gold()))
    row = scores.row_of(EvalQuery(Query(one.query)), of_text(one.text), strict)
    assert row["percentage"] == score(one.query, one.text).percentage
    assert sum(row[name] for name in scores.DIMENSIONS) == score(one.query, one.text).total
    assert row["strict"] == strict(one.query, one.text) > 0.5
    failed = scores.row_of(EvalQuery(Query(one.query)), Expanded("", error="no usable line"), strict)
    assert (failed["percentage"], failed["strict"], failed["parseable"]) == (0.0, 0.0, False)
    assert score(one.query, "").percentage > 30  # what upstream would have given for it


def test_names_must_stand_in_lex_lines() -> None:
    query = EvalQuery(Query("fine-tune GPT-4 on Azure"))
    found = of_text("hyde: Azure serves it.\nlex: gpt 4 tuning\nvec: how is GPT-4 tuned on Azure")
    assert scores.entities_kept(query, found) == 0.5
    assert scores.entities_kept(EvalQuery(Query("fine tuning")), found) is None
    assert scores.entities_kept(EvalQuery(Query("GPT-4", only=("vec",))), found) is None


def test_reasons_are_summed_whatever_they_are_about() -> None:
    rows = [{"reasons": list(score(*pair).reasons)} for pair in (("TDS racing", "lex: cars"), ("ABC radio", "lex: music"))]
    found = scores.reasons(rows)
    assert found["format: no vec line"] == [2, 20]
    assert found["entity: lost …"][0] == 2


def test_a_template_has_no_diversity_and_gold_has() -> None:
    assert (scores.diversity([(one.query, one.text) for one in gold()]) or 0) > 0.95
    same = [(one.query, f"lex: {one.query} guide\nvec: a guide to {one.query}") for one in gold()]
    assert scores.diversity(same) == 0


def test_paired_differences_tell_better_from_worse() -> None:
    good = [scores.row_of(EvalQuery(Query(one.query)), of_text(one.text), None) for one in gold()]
    bad = [scores.row_of(EvalQuery(Query(one.query)), of_text(f"lex: {one.query} guide"), None) for one in gold()]
    found = scores.paired(good, bad, seed=0)
    assert found["percentage"]["verdict"] == "better"
    assert scores.paired(bad, good, seed=0)["percentage"]["verdict"] == "worse"
    assert found["think"] == {"difference": [0, 0, 0], "verdict": "no difference beyond noise", "queries": len(good)}
    assert "strict" not in found


def test_judged_terms_are_matched_as_the_data_says(place: Path) -> None:
    row = {"query": "MoE routing", "must_keep": ["MoE", "rout"], "good_terms": ["expert", "gate"], "bad_terms": ["road"]}
    judged = read_judged(write_lines(place / "judged.jsonl", [row]))
    found = of_text("hyde: The gate opens.\nlex: moe experts\nvec: how are experts routed abroad")
    figures = scores.judged_scores(judged, [found], seed=0)
    assert figures["rows"][0]["must_keep"] == {"MoE": True, "rout": False}  # only vec has it
    assert figures["rows"][0]["good_terms"] == {"expert": False, "gate": True}
    assert figures["bad_terms"] == {"found": 0, "terms": 1, "mean_share": [0, 0, 0]}


def test_a_judged_query_without_terms_is_one_line(place: Path) -> None:
    with pytest.raises(InputError, match=r"j.jsonl line 1: good_terms is no list"):
        read_judged(write_lines(place / "j.jsonl", [{"query": "a", "must_keep": [], "good_terms": "b"}]))


# ---- files ----


def test_expansions_are_read_in_the_shapes_that_we_write(place: Path) -> None:
    rows = [
        {"query": "tide tables", "output": GOOD["output"]},
        {"query": "tea", "only": ["lex"], "lines": [{"type": "lex", "text": "green tea"}], "error": None},
        {"query": "coffee /only:vec", "text": "vec: how is coffee made\nSure!"},
        {"query": "milk", "lines": [], "error": "no model"},
    ]
    found = read_expansions(write_lines(place / "e.jsonl", rows))
    assert [line.type for line in found[Query("tide tables")].lines] == ["hyde", "lex", "vec"]
    assert found[Query("tea", only=("lex",))].text == "lex: green tea"
    assert not found[Query("coffee", only=("vec",))].parseable
    assert found[Query("milk")].error


@pytest.mark.parametrize(
    "row", ["{", {"query": "a"}, {"query": "a", "output": [["x", "y"]]}, {"query": "", "text": "lex: a"}]
)
def test_a_row_that_is_no_expansion_is_one_line(place: Path, row: Any) -> None:
    with pytest.raises(InputError, match=r"e.jsonl line 2: "):
        read_expansions(write_lines(place / "e.jsonl", [{"query": "tea", "text": "lex: tea cup"}, row]))


def test_score_only_says_what_a_file_is_worth(run: Run, place: Path) -> None:
    path = write_lines(place / "e.jsonl", ROWS)
    status, report = run("--score-only", str(path), "--train", str(path), "--sft-model", "fixed-template", "-o", "s.json")
    assert status == 0
    assert report == json.loads((place / "s.json").read_text(encoding="utf-8"))
    ours, template = report["models"]
    assert ours["all"]["queries"] == ours["all"]["parseable"] == len(ROWS)
    assert ours["in_training"] == len(ROWS)
    assert ours["all"]["strict"][0] > 0.8 > 0.2 > template["all"]["strict"][0]
    assert ours["all"]["diversity"] > 0.9 > 0.2 > template["all"]["diversity"]
    assert report["differences"]["strict"]["verdict"] == "better"


def test_a_file_that_lacks_queries_counts_them_as_failed(run: Run, place: Path) -> None:
    (place / "q.txt").write_text("tide tables\n# category: other\nunknown waters\n", encoding="utf-8")
    path = write_lines(place / "e.jsonl", [GOOD])
    status, report = run("--score-only", str(path), "--queries", "q.txt")
    assert status == 1
    assert report["models"][0]["categories"]["other"]["failed"] == 1
    assert report["models"][0]["categories"]["unsorted"]["excellent"] == 1


def test_tables_show_categories_and_with_v_every_query(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["expand", "--model", "fixed-template", "-v"]) == 0
    out, err = capsys.readouterr()
    assert "named entities" in out
    assert "lex: quorum reference handbook" in out
    assert "--train" in err


@pytest.mark.parametrize(
    ("argv", "problem", "status"),
    [
        (["--model", "fixed-template", "--limit", "-1"], "--limit -1", 2),
        (["--score-only", "a.csv"], ".jsonl", 2),
        (["--score-only", "a.jsonl"], "a.jsonl", 1),
        ([], "--model", 2),
        (["--model", "nobody-has-this"], "nobody-has-this", 3),
        (["--model", "fixed-template", "--retrieval", "."], "corpus.jsonl", 1),
        (["--model", "fixed-template", "--corpus"], "--retrieval", 2),
    ],
)
def test_wrong_use_is_one_line(argv: list[str], problem: str, status: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["expand", *argv]) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert problem in err


# ---- retrieval ----


def make_collection(folder: Path) -> Path:
    """Three documents; the query of the one that matters shares no word with it."""
    folder.mkdir(parents=True)
    texts = {"d1": "Acetone smells tell of a hungry starter.", "d2": "Sour dough is bread.", "d3": "Tides rise at noon."}
    write_lines(folder / "corpus.jsonl", [{"_id": name, "title": "", "text": text} for name, text in texts.items()])
    write_lines(folder / "queries.jsonl", [{"_id": "q", "text": "why is my dough odd"}, {"_id": "unjudged", "text": "tea"}])
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq\td1\t1\n", encoding="utf-8")
    return folder


def test_an_expansion_that_helps_is_seen_in_retrieval(run: Run, place: Path) -> None:
    make_collection(place / "sets" / "bread")
    row = {"query": "why is my dough odd", "output": [["lex", "acetone starter"], ["vec", "why does dough smell"]]}
    path = write_lines(place / "e.jsonl", [row])
    _, report = run("--score-only", str(path), "--retrieval", "sets")
    found = report["models"][0]["retrieval"]["bread"]
    assert (found["queries"], found["expanded"]) == (1, 1)
    assert found["recall@5"]["without"][0] == 0
    assert found["recall@5"]["with"][0] == 1
    assert found["ndcg@10"]["verdict"] == "better"
    _, report = run("--score-only", str(path), "--retrieval", "sets", "--corpus")
    assert report["models"][0]["retrieval"]["bread"]["recall@5"]["with"][0] == 1


# ---- models ----


def writes(body: dict[str, Any]) -> Iterator[str]:
    """What a tuned model writes: gold for the query that it knows, else nothing."""
    if "tide tables" in body.get("prompt", ""):
        yield "\n".join(f"{kind}: {text}" for kind, text in GOOD["output"])
    else:
        yield " "


def test_a_tag_of_ollama_is_asked_as_expand_asks_it(run: Run, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "q.txt").write_text("tide tables\nneap tides\n", encoding="utf-8")
    with OllamaServer(writes) as server:
        server.add("tuned", context=4096)
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        argv = ("--model", "tuned", "--contract", "expand@1", "--queries", "q.txt")
        status, report = run(*argv)
        asked = len(server.bodies("/api/generate"))
        assert run(*argv)[1]["models"] == report["models"]
        assert len(server.bodies("/api/generate")) < 2 * asked  # what was answered is not asked again
    (model,) = report["models"]
    assert status == 1  # one query got no expansion
    assert (model["place"], model["contract"], model["all"]["failed"]) == ("ollama", "expand@1", 1)
    assert [row["parseable"] for row in model["rows"]] == [True, False]
    assert model["rows"][0]["percentage"] == score("tide tables", model["rows"][0]["text"]).percentage


def test_a_gguf_file_is_held_to_the_grammar_unless_raw(run: Run, place: Path) -> None:
    tiny_gguf.write_tiny_gguf(place / "tiny.gguf")
    (place / "q.txt").write_text("tide tables\n", encoding="utf-8")
    argv = ("--model", "tiny.gguf", "--queries", "q.txt", "--workers", "1")
    raw = run(*argv, "--raw")[1]["models"][0]
    assert (raw["place"], raw["contract"], raw["raw"]) == ("embedded", "expand@1", True)
    assert raw["all"]["parseable"] == 0  # noise
    served = run(*argv)[1]["models"][0]
    assert not served["rows"][0]["removed"].get("malformed")


@pytest.mark.slow
def test_a_folder_of_training_writes_what_it_was_taught(run: Run, place: Path) -> None:
    import tiny_hf

    target = "hyde: High water is told.\nlex: tide tables harbour\nvec: when is high water"
    tokenizer = tiny_hf.make_tokenizer()
    tokenizer.save_pretrained(place / "model")
    model = tiny_hf.make_folder(
        place / "model", "Qwen3", tokenizer, tied=True, shape={"max_position_embeddings": 1024, "initializer_range": 0.02}
    )
    teach(model, tokenizer, render_prompt(Query("tide tables")), target + END)
    model.save_pretrained(place / "model")
    (place / "q.txt").write_text("tide tables\n", encoding="utf-8")
    status, report = run("--model", "model", "--queries", "q.txt", "--raw", "--threads", "1")
    (row,) = report["models"][0]["rows"]
    assert row["text"] == target
    assert (status, row["parseable"], report["models"][0]["place"]) == (0, True, "transformers")


def teach(model: Any, tokenizer: Any, prompt: str, completion: str) -> None:
    """Train until the completion is known by heart."""
    import torch

    torch.set_num_threads(1)
    start = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
    ids = torch.tensor([tokenizer(prompt + completion, add_special_tokens=False)["input_ids"]])
    labels = ids.clone()
    labels[:, :start] = -100
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    model.train()
    for _ in range(150):
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if loss.item() < 0.01:
            break
    model.eval()
    assert loss.item() < 0.05
