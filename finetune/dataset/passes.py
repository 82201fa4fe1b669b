"""The readings of the inputs that make a data set.

The first keeps only hashes, to find which row stands for each paper (``merge.py``) and which papers stand in an evaluation
set; contract mark takes another for its label vocabulary; the last makes those rows into examples. So memory does not
grow with the number of papers, and the order of the examples is that of the inputs.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from finetune.dataset.card import SPLITS, Split, Statistics, by_source
from finetune.dataset.contracts import NAMES, Labelled, Unusable, examples, labelled, reviewed
from finetune.dataset.held_out import HeldOut
from finetune.dataset.inputs import ARXIV, ORDER, Advance, Input, Source, sha256
from finetune.dataset.merge import Chosen, Merge, chance
from finetune.dataset.options import Options, as_paths
from finetune.dataset.rows import Row
from harness.errors import InputError
from harness.outputs import atomic_write
from harness.readers.text import shown
from skills.annotate.moves import Framework

if TYPE_CHECKING:
    from finetune.mark_data import Labels

BAD = "cannot be read"
IN_PART = "reviewed in part"
_JSON = json.JSONEncoder(ensure_ascii=False)


class Taken(NamedTuple):
    """One paper of the data set."""

    split: Split
    source: Source
    id: str
    paper: Labelled


class Build:
    """One building of a data set: ``run`` does all of it."""

    def __init__(self, inputs: Sequence[Input], framework: Framework, options: Options, advance: Advance) -> None:
        """``inputs`` in the order of their sources. Raises InputError for an evaluation set that cannot be read."""
        self.inputs, self.framework, self.options, self.advance = inputs, framework, options, advance
        self.held_out = HeldOut(as_paths(options.held_out))
        self.read: Counter[Source] = Counter()
        self.bad: Counter[tuple[Source, str]] = Counter()
        """Rows that cannot be read, and those whose paper stands in the data set but gives no example."""

    def run(self, folder: Path) -> dict[str, Any]:
        """Build into the folder; the card."""
        with tempfile.TemporaryDirectory(prefix="marginalia-merge-") as name:
            merge = Merge(Path(name) / "papers.db", [str(i.path) for i in self.inputs], len(self.framework.moves))
            try:
                self._merge(merge)
                labels = self._labels(merge) if self.options.contract == "mark" else None
                return self._write(merge, labels, folder)
            finally:
                merge.close()

    # ---- first reading ----

    def _merge(self, merge: Merge) -> None:
        """Find the row that stands for each paper."""
        options = self.options
        filtered = not options.keep_unfiltered and any(found.source == "curated" for found in self.inputs)
        for source in ORDER:
            for file, found in enumerate(self.inputs):
                if found.source == source:
                    self._merge_file(merge, file, found, only_known=filtered and source == "agent")
            if source == "gold" and options.limit:
                merge.limit(options.limit, options.seed)
        merge.finish()

    def _merge_file(self, merge: Merge, file: int, found: Input, *, only_known: bool) -> None:
        for row in found.rows(self.advance):
            self.read[found.source] += 1
            leaks = isinstance(row, Row) and self._leaks(row)
            try:
                if isinstance(row, InputError):
                    raise row
                merge.add(found.source, file, row, leaks=leaks, only_known=only_known)
            except InputError:
                if not self.options.skip_bad:
                    raise
                self.bad[found.source, BAD] += 1

    def _leaks(self, row: Row) -> bool:
        """Whether a row stands in an evaluation set. Raises InputError where that is an error."""
        leak = None if row.problem else self.held_out.leak(row)
        if leak and self.options.strict:
            name = row.id or shown(row.title or row.abstract)
            remedy = "take it out, or leave --strict away to have it left out"
            raise InputError(f"{row.where}: {name} stands in {leak.file} (same {leak.reason})", remedy)
        return leak is not None

    # ---- later readings ----

    def _taken(self, merge: Merge, unusable: Counter[tuple[Source, str]]) -> Iterator[Taken]:
        """The papers of the data set in the order of the inputs; counts those that give no example."""
        for file, found in enumerate(self.inputs):
            chosen = merge.chosen(file)
            wanted = next(chosen, None)
            for row in found.rows(self.advance) if wanted else ():
                if wanted is None:
                    break
                if isinstance(row, InputError) or row.number != wanted.row:
                    continue
                try:
                    yield self._paper(found.source, row, wanted)
                except Unusable as error:
                    unusable[found.source, str(error)] += 1
                except InputError:
                    if not self.options.skip_bad:
                        raise
                    unusable[found.source, BAD] += 1
                wanted = next(chosen, None)

    def _paper(self, source: Source, row: Row, chosen: Chosen) -> Taken:
        """One chosen row with its labels tied to sentences. Raises Unusable or InputError."""
        options = self.options
        split: Split = "valid" if chance(options.seed, "split", chosen.key) < options.valid else "train"
        whole = reviewed(row, chosen.review) if chosen.review else row
        paper = labelled(whole, self.framework, options.contract)
        if chosen.review and source != "gold":
            paper = replace(paper, notes=(*paper.notes, IN_PART))
        return Taken(split, source, row.id or f"paper-{chosen.key & (1 << 64) - 1:016x}", paper)

    def _labels(self, merge: Merge) -> Labels:
        """The label vocabulary of mark@1: that of a model, or what the training papers carry."""
        from finetune.mark_data import Labels

        moves = self.framework.names
        if self.options.labels:
            return read_labels(Path(self.options.labels), moves)
        papers = (
            {"sentences": taken.paper.sentences, "moves": {move: n for move, (_, n) in taken.paper.answer.items()}}
            for taken in self._taken(merge, Counter())
            if taken.split == "train"
        )
        return Labels.of(papers, moves, self.options.least)

    def _write(self, merge: Merge, labels: Labels | None, folder: Path) -> dict[str, Any]:
        """Write the examples, the labels and, last, the card that has everything's hash."""
        statistics = Statistics(self.framework.names)
        unusable: Counter[tuple[Source, str]] = Counter()
        files = {split: folder / f"{split}.jsonl" for split in SPLITS}
        hashes = {split: hashlib.sha256() for split in SPLITS}
        with ExitStack() as stack:
            handles: dict[Split, IO[bytes]] = {
                split: stack.enter_context(atomic_write(path, binary=True)) for split, path in files.items()
            }
            for split, source, identity, paper in self._taken(merge, unusable):
                statistics.paper(split, source, paper)
                for example in examples(paper, identity, source, self.framework, self.options.contract, labels):
                    line = _JSON.encode(example).encode() + b"\n"
                    handles[split].write(line)
                    hashes[split].update(line)
                    statistics.example(split, example)
            dropped = merge.dropped + self.bad + unusable
            if not statistics.rows["train"]:
                raise InputError("no paper is left to train on", _why(dropped))
            (folder / "card.json").unlink(missing_ok=True)  # a build that ends between the renames has no card
        (folder / "labels.json").unlink(missing_ok=True)
        written = {files[split].name: f"sha256:{hashes[split].hexdigest()}" for split in SPLITS}
        if labels is not None:
            with atomic_write(folder / "labels.json") as handle:
                handle.write(json.dumps({"moves": labels.moves, "sets": labels.sets}))
            written["labels.json"] = sha256(folder / "labels.json")
        card = self._card(statistics, dropped, written)
        with atomic_write(folder / "card.json") as handle:
            handle.write(json.dumps(card, indent=1, ensure_ascii=False) + "\n")
        return card

    def _card(
        self, statistics: Statistics, dropped: Mapping[tuple[Source, str], int], written: Mapping[str, str]
    ) -> dict[str, Any]:
        options = self.options
        named = {"framework": options.framework, "labels": options.labels if options.contract == "mark" else None}
        return {
            "contract": NAMES[options.contract],
            **statistics.counts(),
            "read": {source: self.read[source] for source in ORDER},
            "dropped": by_source(dropped),
            "notes": dict(sorted(statistics.notes.items())),
            "lengths": statistics.lengths(),
            "balance": statistics.balance(),
            "held_out": self.held_out.report(),
            "options": {
                name: getattr(options, name) for name in ("seed", "valid", "limit", "least", "strict", "keep_unfiltered")
            },
            "inputs": [{"source": i.source, "file": i.path.name, "sha256": sha256(i.path)} for i in self.inputs],
            "abstracts": [
                {"file": place.name, "sha256": sha256(place)} if str(place) != ARXIV else {"file": ARXIV}
                for place in as_paths(options.abstracts)
            ],
            **{
                name: {"file": Path(path).name, "sha256": sha256(Path(path))} if path else None
                for name, path in named.items()
            },
            "files": dict(written),
        }


def read_labels(path: Path, moves: Sequence[str]) -> Labels:
    """The label vocabulary that a trained marker has saved. Raises InputError."""
    from finetune.mark_data import Labels

    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        labels = Labels(tuple(data["moves"]), tuple(tuple(stated) for stated in data["sets"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: is no labels.json of a model ({error})", "correct --labels") from None
    if labels.moves != tuple(moves):
        raise InputError(f"{path}: its moves are {', '.join(labels.moves)}", f"the framework's are {', '.join(moves)}")
    return labels


def _why(dropped: Mapping[tuple[Source, str], int]) -> str:
    reasons = ", ".join(f"{count} {source} rows: {reason}" for (source, reason), count in sorted(dropped.items()))
    return reasons or "the files hold no rows"
