"""What the road releases: the registry entry, its gate, and that it is served as it was trained, token for token."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the finetune extra")
pytest.importorskip("transformers", reason="needs the finetune extra")
pytest.importorskip("sklearn", reason="needs the finetune extra")

from finetune_smoke import MOVES, NAME, write_rows

from finetune import mark_release
from finetune.mark_data import Example
from finetune.mark_train import digest
from harness.models.base import Options, Reply, Request
from harness.models.embedded import EmbeddedModel
from harness.registry import find
from skills.annotate import mark
from skills.annotate.annotator import MarkAnnotator
from skills.annotate.calibration import Calibration
from skills.annotate.moves import load_framework

if TYPE_CHECKING:
    from finetune_smoke import Road

pytestmark = pytest.mark.slow

TOLERANCE = 0.005
"""Probability by which float16 weights and cache in llama.cpp may differ from float32 in torch."""

HOSTILE = (
    f"A title with {mark.MARK} and <none> in it, Poincare\u0301's",
    [
        "Naïve re\u0301sume\u0301s state 漢字 and 🧪🧪 in one line\n that\tis broken.",
        "We introduce <claim+novelty>, a loss $\\mathcal{L}_{\\alpha} < 0.05$, <|endoftext|> and <|im_start|>system.",
        f"It's 12.5% better than{mark.MARK}the baseline  , isn't it?",
    ],
)


def test_the_entry_names_its_file_its_lineage_and_how_to_serve_it(road: Road) -> None:
    entry = road.entry
    assert (entry.status, entry.contract) == ("candidate", mark.CONTRACT)
    assert set(entry.lineage) == {"base", "gold", "pseudo", "config", "weights"}
    assert entry.lineage["gold"] == digest(road.root / "gold.jsonl")
    calibration = Calibration.load(entry.serving)
    assert set(calibration.thresholds) == set(MOVES)
    assert set(calibration.stated.intercept) == set(calibration.absent.intercept) == set(MOVES)
    gguf: Any = pytest.importorskip("gguf")
    fields = gguf.GGUFReader(entry.gguf_path).fields
    assert fields["marginalia.lineage.weights"].contents() == entry.lineage["weights"]


def test_a_release_needs_the_gold_of_its_training(road: Road, tmp_path: Path) -> None:
    other = write_rows(tmp_path / "gold.jsonl", road.gold[:-1])
    with pytest.raises(SystemExit, match="not the gold that"):
        mark_release.main([str(road.root / "mini"), "--gold", str(other), "--registry", str(tmp_path / "registry")])
    assert not (tmp_path / "registry").exists()


def test_a_name_that_is_none_is_one_line(road: Road, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--gold", str(road.root / "gold.jsonl"), "--registry", str(tmp_path / "registry")]
    assert mark_release.main([str(road.root / "mini"), *where, "--name", "no name:x"]) == 2
    assert "is not a model name" in capsys.readouterr().err


def test_the_gate_keeps_a_poor_model_out_and_lets_a_good_one_in(
    road: Road, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry, scores = tmp_path / "registry", tmp_path / "scores.json"
    shutil.copytree(road.root / "registry", registry)
    arguments = [str(road.root / "mini"), "--scores", str(scores), "--name", NAME, "--registry", str(registry)]
    scores.write_text(json.dumps({"moves_dev": {"macro_f1": 0.5}}))
    assert mark_release.main(arguments) == 1
    assert "its gate asks for 0.742" in capsys.readouterr().err
    scores.write_text(json.dumps({"moves_dev": {"macro_f1": 0.8}}))
    assert mark_release.main(arguments) == 0
    entry = find(NAME, [registry])
    assert entry is not None
    assert entry.status == "active"
    assert set(entry.scores) == {"moves_train_held_back", "moves_dev"}


def test_a_constant_curve_where_every_cell_is_alike() -> None:
    best, move = np.array([0.2, 0.7]), np.array([0, 1])
    right = mark_release.fit_curve(best, np.array([True, True]), move, ("claim", "method"))
    wrong = mark_release.fit_curve(best, np.array([False, False]), move, ("claim", "method"))
    assert right == {"slope": 0.0, "claim": 4.0, "method": 4.0}
    assert wrong == {"slope": 0.0, "claim": -4.0, "method": -4.0}


def test_cells_are_right_by_their_best_sentence_or_by_being_absent() -> None:
    gold = np.array([[1, 0], [0, 0], [0, 1]], dtype=bool)  # two sentences of paper 0, one of paper 1
    probabilities = np.array([[0.6, 0.1], [0.8, 0.2], [0.1, 0.4]])
    table = mark_release.cells(gold, probabilities, np.array([0, 0, 1]), np.array([0.5, 0.5]))
    assert table["best"].tolist() == [0.8, 0.2, 0.1, 0.4]
    assert table["stated"].tolist() == [True, False, False, False]
    assert table["correct"].tolist() == [False, True, True, False]
    assert table["move"].tolist() == [0, 1, 0, 1]


@dataclass
class Recorder:
    """A model that keeps what it answered to each prompt."""

    model: EmbeddedModel
    replies: dict[str, Reply] = field(default_factory=dict)

    def generate(self, request: Request, **more: Any) -> Reply:
        assert request.prompt is not None
        return self.replies.setdefault(request.prompt, self.model.generate(request, **more))


def annotator_of(model: Any, calibration: Calibration) -> MarkAnnotator:
    return MarkAnnotator(model, load_framework(), calibration, Options())


@pytest.fixture(scope="module")
def served(road: Road) -> Iterator[EmbeddedModel]:
    pytest.importorskip("xllamacpp")
    entry = road.entry
    assert entry.gguf is not None
    assert entry.gguf_path is not None
    values = {"sha256": entry.gguf.sha256, "contract": entry.contract}
    model = EmbeddedModel(entry.gguf_path, name=NAME, context=2048, slots=1, threads=1, **values)
    yield model
    model.close()


def papers_to_serve(road: Road) -> list[tuple[str, list[str]]]:
    """Some of the sample, a paper of characters that tokenizers stumble on, and one that is marked in several windows."""
    papers = [(paper["title"], paper["sentences"]) for paper in road.gold]
    long = [sentence for _, sentences in papers[:4] for sentence in sentences]
    assert len(mark.windows(long)) > 1
    return [*papers[:8], HOSTILE, ("", long)]


def test_prompts_have_the_same_tokens_in_training_and_in_serving(road: Road, served: EmbeddedModel) -> None:
    encoder = road.marker("mini").encoder
    for title, sentences in (HOSTILE, *papers_to_serve(road)[:2]):
        _, marks = encoder.encode(title, sentences)
        counts = [served.count_tokens(prompt) for prompt in mark.prompts(title, sentences)]
        assert counts == [place + 1 for place in marks]


def test_served_probabilities_are_those_of_the_trained_model(road: Road, served: EmbeddedModel) -> None:
    marker, calibration = road.marker("mini"), Calibration.load({**road.entry.serving, "floors": {}})
    for title, sentences in papers_to_serve(road):
        windows = mark.windows(sentences)
        examples = [Example(*marker.encoder.encode(title, sentences[start:end])) for start, end in windows]
        expected = np.concatenate(marker.predict(examples, bf16=False)) @ marker.labels.matrix
        recorder = Recorder(served)
        cells = annotator_of(recorder, calibration).annotate(title, sentences).cells
        answers = []
        prompts = [prompt for start, end in windows for prompt in mark.prompts(title, sentences[start:end])]
        for (first,) in (recorder.replies[prompt].logprobs for prompt in prompts):
            alternatives = {**first.top, first.token: first.logprob}
            assert set(marker.labels.tokens) <= set(alternatives)  # no label is cut off by ``top_logprobs``
            answers.append([*mark.marginals(alternatives, MOVES).values()])
        assert np.array(answers) == pytest.approx(expected, abs=TOLERANCE)
        for move, column in zip(MOVES, expected.T, strict=True):
            margin = column - calibration.threshold(move)
            sure = set(np.flatnonzero(np.abs(margin) > TOLERANCE) + 1)
            stated = {number for number in sure if margin[number - 1] > 0}
            found = set(cells[move].sentences) & sure
            assert found == stated or (found < stated and len(cells[move].sentences) == 4)  # a move has at most four


def test_an_abstract_is_computed_once_for_all_its_sentences(served: EmbeddedModel) -> None:
    recorder = Recorder(served)
    annotator_of(recorder, Calibration.load({})).annotate(*HOSTILE)
    first, *others = recorder.replies.values()
    assert first.prompt_tokens == max(reply.prompt_tokens for reply in recorder.replies.values())
    assert others
    assert all(reply.cached_tokens == reply.prompt_tokens - 1 for reply in others)
