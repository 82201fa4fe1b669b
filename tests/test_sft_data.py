"""Rows to examples to batches: what is trained on, what order it comes in, and that the loss is the reference's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("peft", reason="needs the finetune extra")
torch = pytest.importorskip("torch", reason="needs the finetune extra")

from sft_helpers import MOVES, SETS, chat_row, make_base, make_data, mark_row, papers, write_rows  # noqa: E402

from finetune.sft.batches import StepSampler, collate, padded, padding_share, split_step  # noqa: E402
from finetune.sft.data import Encoder, Example, Labels, load_split, open_folder, trained_share  # noqa: E402
from finetune.sft.model import TrainedPositions, load_tokenizer  # noqa: E402
from harness.errors import InputError  # noqa: E402
from skills.annotate import mark  # noqa: E402
from skills.annotate.prompt import END, QUOTE  # noqa: E402

LABELS = Labels(MOVES, SETS)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def mark_encoder(base: Path) -> Encoder:
    return Encoder(load_tokenizer(base, LABELS), LABELS, 400)


@pytest.fixture(scope="module")
def chat_encoder(base: Path) -> Encoder:
    return Encoder(load_tokenizer(base, None), None, 400)


def example(length: int, trained: int = 1) -> Example:
    ids = np.arange(length)
    return Example(str(length), ids, ids[-trained:], ids[-trained:])


# Rows.


def test_a_chat_row_is_trained_on_its_completion_and_the_end_of_turn(chat_encoder: Encoder) -> None:
    row = chat_row(*papers(1)[0])
    found, tokenizer = chat_encoder.encode("x:1", row), chat_encoder.tokenizer
    assert tokenizer.decode(found.targets) == row["completion"] + "<|im_end|>"
    assert row["completion"].endswith(END)
    assert np.array_equal(found.ids[found.positions + 1], found.targets)
    prompt = tokenizer.decode(found.ids[: found.positions[0] + 1])
    assert prompt == tokenizer.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True)
    assert prompt.endswith("<|im_start|>assistant\n")


def test_a_mark_row_is_trained_at_its_marks_and_labels_are_not_fed_back(mark_encoder: Encoder) -> None:
    name, sentences, stated = papers(1)[0]
    found = mark_encoder.encode("x:1", mark_row(name, sentences, stated))
    assert mark_encoder.tokenizer.decode(found.ids) == mark.prompts("", sentences)[-1]
    assert (found.ids[found.positions] == mark_encoder.mark_id).all()
    assert mark_encoder.tokenizer.convert_ids_to_tokens(found.targets.tolist()) == [mark.label(s) for s in stated]
    assert not set(found.targets.tolist()) & set(found.ids.tolist())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"completion": "text"}, "prompt must be a transcript"),
        ({"completion": ["<claim>"]}, "marks and 1 labels"),
        ({"completion": ["<novelty>"]}, "'<novelty>' is no token of labels.json"),
    ],
)
def test_a_mark_row_that_is_wrong_is_named(mark_encoder: Encoder, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=rf"^train\.jsonl:7: .*{message}"):
        mark_encoder.encode("train.jsonl:7", mark_row(*papers(1)[0]) | change)


@pytest.mark.parametrize(
    "change", [{"prompt": "text"}, {"prompt": []}, {"prompt": [{"role": "user"}]}, {"completion": ["a"]}]
)
def test_a_chat_row_that_is_wrong_is_named(chat_encoder: Encoder, change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"^train\.jsonl:7: prompt must be chat messages"):
        chat_encoder.encode("train.jsonl:7", chat_row(*papers(1)[0]) | change)


def test_rows_that_are_no_rows_are_named(tmp_path: Path, mark_encoder: Encoder) -> None:
    good = json.dumps(mark_row(*papers(1)[0]))
    for line, message in (("{", r"train\.jsonl:2: no JSON"), ("{}", r"train\.jsonl:2: no object with prompt")):
        (tmp_path / "train.jsonl").write_text(f"{good}\n{line}\n")
        with pytest.raises(InputError, match=message):
            load_split(tmp_path / "train.jsonl", mark_encoder, "drop")


def test_what_is_too_long_is_dropped_or_cut_and_counted(tmp_path: Path, base: Path) -> None:
    path = write_rows(tmp_path / "train.jsonl", [mark_row(*paper) for paper in papers(20)])
    tokenizer = load_tokenizer(base, LABELS)
    whole = load_split(path, Encoder(tokenizer, LABELS, 10_000), "drop")
    limit = sorted(len(e.ids) for e in whole.examples)[9]
    dropped, cut = (load_split(path, Encoder(tokenizer, LABELS, limit), way) for way in ("drop", "cut"))
    over = sum(len(e.ids) > limit for e in whole.examples)
    assert (whole.too_long, dropped.too_long, cut.too_long) == (0, over, over)
    assert over > 0
    assert len(dropped.examples) == 20 - over
    assert max(len(e.ids) for e in cut.examples) == limit
    assert all((e.positions < len(e.ids)).all() and len(e.positions) == len(e.targets) > 0 for e in cut.examples)
    with pytest.raises(InputError, match="all 20 rows have more than 5 tokens; raise max_length"):
        load_split(path, Encoder(tokenizer, LABELS, 5), "drop")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("card.json", None, "card.json: missing"),
        ("card.json", "{}", "names no contract"),
        ("labels.json", '{"moves": []}', "has no lists"),
        ("labels.json", '{"moves": ["a"], "sets": [["b"]]}', "has doubles or unknown moves"),
        ("valid.jsonl", None, "valid.jsonl: missing"),
    ],
)
def test_a_data_folder_that_is_none_is_named(tmp_path: Path, name: str, text: str | None, message: str) -> None:
    folder = make_data(tmp_path / "data")
    (folder / name).unlink() if text is None else (folder / name).write_text(text)
    with pytest.raises(InputError, match=message):
        open_folder(folder)


def test_data_of_another_contract_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"its rows are of annotate/mark@1, the configuration wants annotate/quote@1"):
        open_folder(make_data(tmp_path / "data"), QUOTE)


# Batches.


@given(st.lists(st.integers(1, 300), min_size=1, max_size=60), st.integers(1, 9), st.integers(0, 5), st.integers(0, 3))
def test_an_epoch_has_every_example_once_in_an_order_of_seed_and_epoch(
    lengths: list[int], batch: int, group: int, epoch: int
) -> None:
    sampler, again = (StepSampler(lengths, batch, group, seed=3) for _ in range(2))
    again.set_epoch(9)
    list(again)  # what came before leaves no trace
    sampler.set_epoch(epoch)
    again.set_epoch(epoch)
    steps = list(sampler)
    assert steps == list(again)
    assert len(steps) == len(sampler)
    assert sorted(index for step in steps for index in step) == list(range(len(lengths)))
    assert all(len(step) <= batch for step in steps)


def test_epochs_differ_and_grouping_saves_padding() -> None:
    lengths = np.random.default_rng(0).integers(50, 600, 320).tolist()
    grouped, random_order = (StepSampler(lengths, 16, group, seed=1) for group in (8, 0))
    first = list(grouped)
    grouped.set_epoch(1)
    assert first != list(grouped)
    assert padding_share(grouped, 4, 0) < 0.1 < 0.25 < padding_share(random_order, 4, 0)


def test_processes_share_each_step() -> None:
    parts = [list(StepSampler(list(range(1, 24)), 6, 2, seed=1, rank=rank, world=2)) for rank in (0, 1)]
    whole = [step for step in StepSampler(list(range(1, 24)), 6, 2, seed=1) if len(step) == 6]
    assert [sorted(a + b) for a, b in zip(*parts, strict=True)] == [sorted(step) for step in whole]
    assert {len(step) for part in parts for step in part} == {3}


@given(st.lists(st.integers(1, 500), min_size=1, max_size=40), st.integers(1, 8), st.integers(0, 2000))
def test_micro_batches_keep_their_budget(lengths: list[int], most: int, tokens: int) -> None:
    lengths.sort(reverse=True)
    parts = [lengths[part] for part in split_step(lengths, most, tokens)]
    assert [length for part in parts for length in part] == lengths
    for part in parts:
        assert 1 <= len(part) <= most
        assert len(part) == 1 or not tokens or len(part) * padded(max(part)) <= tokens


def test_a_batch_knows_where_its_targets_stand() -> None:
    batch = collate([example(5, 2), example(11, 3)], pad_id=99)
    assert batch["input_ids"].shape == (2, 32)
    assert torch.equal(batch["input_ids"].reshape(-1)[batch["where"]], batch["targets"])
    assert (batch["input_ids"] == 99).sum() == 2 * 32 - 16
    assert batch["tokens"] == 16


# The loss.


def test_the_loss_is_that_of_the_whole_sequence_with_prompts_masked(base: Path, chat_encoder: Encoder) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base)
    model.eval()
    examples = [chat_encoder.encode("x:1", chat_row(*paper)) for paper in papers(3)]
    reference, count = 0.0, 0
    for one in examples:  # transformers' own loss, one unpadded example at a time
        labels = torch.full((1, len(one.ids)), -100)
        labels[0, one.positions + 1] = torch.from_numpy(one.targets)
        loss = model(input_ids=torch.from_numpy(one.ids)[None], labels=labels).loss
        reference, count = reference + loss.item() * len(one.targets), count + len(one.targets)
    batch = collate(examples, chat_encoder.tokenizer.pad_token_id)
    positions = TrainedPositions(model)
    positions.where = batch["where"]
    logits = model(input_ids=batch["input_ids"]).logits
    assert logits.shape == (1, count, model.config.vocab_size)  # nothing is computed for the rest
    loss = torch.nn.functional.cross_entropy(logits[0], batch["targets"])
    assert loss.item() == pytest.approx(reference / count, rel=1e-5)
    assert 0.1 < trained_share(examples) < 0.9


# Attention.


@pytest.mark.parametrize(("length", "heads", "shared"), [(1, 2, 2), (7, 4, 2), (300, 2, 1)])
def test_blocks_attend_as_torch_does(length: int, heads: int, shared: int) -> None:
    from finetune.sft.attention import attend

    torch.manual_seed(0)
    q, k, v = (torch.randn(2, n, length, 8, dtype=torch.float64, requires_grad=True) for n in (heads, shared, shared))
    weights = torch.randn(2, heads, length, 8, dtype=torch.float64)
    ours = attend(q, k, v, 0.3)
    theirs = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3, enable_gqa=True)
    assert torch.allclose(ours, theirs, atol=1e-12)
    for one, other in zip(*(torch.autograd.grad((x * weights).sum(), (q, k, v)) for x in (ours, theirs)), strict=True):
        assert torch.allclose(one, other, atol=1e-10)


def test_blocks_in_16_bits_are_as_close_to_the_truth_as_torchs_own() -> None:
    from finetune.sft.attention import attend

    torch.manual_seed(0)
    exact = [torch.randn(1, 2, 200, 32, requires_grad=True) for _ in range(3)]
    rough = [x.detach().bfloat16().requires_grad_() for x in exact]
    torchs = torch.nn.functional.scaled_dot_product_attention
    truth, theirs = torchs(*exact, is_causal=True), torchs(*rough, is_causal=True)
    ours = attend(*rough, 32**-0.5)
    gradients = [
        torch.autograd.grad(out.float().square().sum(), xs) for out, xs in ((truth, exact), (theirs, rough), (ours, rough))
    ]
    for true, their, our in zip([truth, *gradients[0]], [theirs, *gradients[1]], [ours, *gradients[2]], strict=True):
        assert (our.float() - true).norm() < 1.5 * (their.float() - true).norm()
