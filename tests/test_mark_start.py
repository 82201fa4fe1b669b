"""What a run of the annotator's training starts from: an earlier run's labels, papers with and without section heads."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("torch", reason="needs the finetune extra")
pytest.importorskip("transformers", reason="needs the finetune extra")
pytest.importorskip("sklearn", reason="needs the finetune extra")

from finetune.mark_data import Labels
from finetune.mark_model import start_marker
from finetune.mark_train import MarkConfig, gold_pool

if TYPE_CHECKING:
    from finetune_smoke import Road

pytestmark = pytest.mark.slow

HEADED: dict[str, Any] = {
    "title": "Sleep",
    "sentences": ["METHODS: We asked 40 nurses.", "Half slept."],
    "moves": {"method": [1], "evidence": [2]},
}
BARE = {**HEADED, "sentences": ["We asked 40 nurses.", "Half slept."]}


def test_an_earlier_run_keeps_its_labels(road: Road) -> None:
    own = road.marker("mini").labels
    other = Labels(own.moves, own.sets[:-1])
    assert start_marker(road.root / "mini" / "model", other, 1).labels == own


def test_an_annotator_of_another_framework_is_refused(road: Road) -> None:
    with pytest.raises(SystemExit, match="labels of other moves"):
        start_marker(road.root / "mini" / "model", Labels(("aim",), ((), ("aim",))), 1)


def test_papers_lose_their_section_heads_as_often_as_asked(road: Road) -> None:
    marker, config = road.marker("mini"), MarkConfig(drop_title=0.0)

    def ids(paper: dict[str, Any], share: float) -> list[int]:
        ((example, _),) = gold_pool(marker, [paper], replace(config, drop_heads=share))
        return list(example.ids)

    assert ids(HEADED, 1.0) == ids(BARE, 0.0) == ids(BARE, 1.0)
    assert ids(HEADED, 0.0) != ids(BARE, 0.0)
