"""Questions whose answer is known to be, or not to be, in a corpus: what calibration and benchmark of /ask stand on.

An answerable question comes twice: over the whole corpus, and over the corpus without the papers that answer it. SciFact:
claims with marked evidence (papers that are merely cited go with the gold ones). PubMedQA: questions made from the titles
of the abstracts, which are indexed without their headings and conclusions. QASA: questions that their paper does not
answer, over recent arXiv abstracts and, in a second set, over the very sentences that made the readers ask.
"""

from __future__ import annotations

import csv
import gzip
import json
import random
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from common import DATA, need, read_jsonl
from rich.console import Console

from harness.search import evaluate
from harness.search.documents import Block, Document
from harness.search.embedders import embed_new
from harness.search.search import Plan, search
from harness.search.sqlite_store import SqliteStore
from harness.search.store import IndexedFile, Stamp
from harness.search.vectors import Embedder
from skills.ask.abstain import BACKGROUND, Verdict, judge
from skills.ask.passages import Evidence, passages_of, read
from skills.ask.terms import Stemmer, Terms, terms_of

CORPUS = "corpus"


@dataclass(frozen=True)
class Paper:
    """A document of a corpus; ``parts`` are its paragraphs, ``results`` says which of them report results."""

    id: str
    title: str
    parts: tuple[str, ...]
    results: tuple[bool, ...] = ()


@dataclass(frozen=True)
class Question:
    """A question, the papers that answer it, and those that must go where it is to be unanswerable."""

    id: str
    text: str
    gold: frozenset[str]
    remove: frozenset[str]


@dataclass(frozen=True)
class Set:
    """A corpus and its questions; those without gold are unanswerable as they are."""

    name: str
    papers: tuple[Paper, ...]
    questions: tuple[Question, ...]


def scifact(split: str) -> Set:
    """``train`` (505 claims with evidence) or ``validation`` (188, those of BEIR's test set)."""
    collection = evaluate.load(DATA / "retrieval" / "scifact", "qrels.tsv")
    cited = evaluate.read_qrels(need(DATA / "retrieval" / "scifact" / "qrels_cited.tsv"))
    papers = tuple(Paper(key, title, (text,)) for key, (title, text) in collection.corpus.items() if text.strip())
    rows = {row["_id"]: row for row in read_jsonl(DATA / "retrieval" / "scifact" / "queries.jsonl")}
    questions = []
    for query, grades in evaluate.judged(collection):
        if rows[query]["split"] == split:
            gold = frozenset(paper for paper, grade in grades.items() if grade > 0)
            questions.append(Question(query, rows[query]["text"], gold, gold | frozenset(cited.get(query, {}))))
    return Set(f"scifact {split}", papers, tuple(questions))


def pubmedqa(half: int) -> Set:
    """Half 0 or 1 of the questions (by a hash of their ids) over all 500 abstracts."""
    rows = read_jsonl(DATA / "qa" / "pubmedqa.jsonl")
    papers = tuple(
        Paper(
            row["id"],
            "",
            tuple(row["contexts"]),
            tuple("RESULT" in label or "FINDING" in label for label in row["context_labels"]),
        )
        for row in rows
    )
    questions = tuple(
        Question(row["id"], row["question"], frozenset([row["id"]]), frozenset([row["id"]]))
        for row in rows
        if zlib.crc32(row["id"].encode()) % 2 == half
    )
    return Set(f"pubmedqa half {half}", papers, questions)


def classic(name: str, half: int | None = None) -> Set:
    """``cranfield`` (or a half of its questions) or ``cisi``: questions that many papers answer, all judged by people."""
    collection = evaluate.load(DATA / "retrieval" / name)
    papers = tuple(Paper(key, title, (text,)) for key, (title, text) in collection.corpus.items() if text.strip())
    questions = []
    for query, grades in evaluate.judged(collection):
        gold = frozenset(paper for paper, grade in grades.items() if grade > 0)
        if half is None or zlib.crc32(query.encode()) % 2 == half:
            questions.append(Question(query, collection.queries[query], gold, gold))
    return Set(name if half is None else f"{name} half {half}", papers, tuple(questions))


def qasa(*, own_sentences: bool, abstracts: int = 5000) -> Set:
    """The unanswerable questions over arXiv abstracts, and with ``own_sentences`` over what made the readers ask, too."""
    papers = [*_agentic(), *_arxiv(abstracts)]
    rows = read_jsonl(DATA / "qa" / "qasa_unanswerable.jsonl")
    if own_sentences:
        said: dict[str, list[str]] = {}
        for row in rows:
            said.setdefault(row["title"], []).append(row["question_trigger_sentence"])
        papers += [Paper(title, title, tuple(dict.fromkeys(parts))) for title, parts in said.items() if any(parts)]
    questions = tuple(Question(row["id"], row["question"], frozenset(), frozenset()) for row in rows)
    return Set("qasa, own sentences" if own_sentences else "qasa", tuple(papers), questions)


def off_topic() -> Set:
    """Questions of everyday knowledge (``off_topic.txt``, ours) over papers on language agents."""
    asked = (Path(__file__).parent / "off_topic.txt").read_text(encoding="utf-8").splitlines()
    questions = tuple(Question(str(number), text, frozenset(), frozenset()) for number, text in enumerate(asked, 1) if text)
    return Set("off the subject", tuple(_agentic()), questions)


def _agentic() -> Iterator[Paper]:
    with need(DATA / "papers" / "agentic_598.csv").open(encoding="utf-8", newline="") as handle:
        for row in csv.DictReader(handle):
            yield Paper(row["arxiv_id"], row["title"], (row["abstract"],))


def _arxiv(count: int) -> Iterator[Paper]:
    with gzip.open(need(DATA / "papers" / "arxiv_abstracts.jsonl.gz"), "rt", encoding="utf-8") as handle:
        for number, row in enumerate(map(json.loads, islice(handle, count))):
            text = row["abstract"] if "abstract" in row else row["text"]
            yield Paper(str(row.get("id", number)), row.get("title") or "", (text,))


def sample(whole: Set, size: int, seed: int) -> list[Set]:
    """The questions spread over smaller corpora of about ``size`` papers, each with all papers of its questions."""
    chance = random.Random(seed)
    by_id = {paper.id: paper for paper in whole.papers}
    questions = list(whole.questions)
    chance.shuffle(questions)
    share = max(1, size // 8)
    sets = []
    for start in range(0, len(questions), share):
        some = tuple(questions[start : start + share])
        wanted = set().union(*(question.remove for question in some)) & by_id.keys()
        others = chance.sample(sorted(by_id.keys() - wanted), max(0, size - len(wanted)))
        chosen = tuple(by_id[key] for key in sorted(wanted | set(others)))
        sets.append(Set(f"{whole.name}, {size} papers", chosen, some))
    return sets


def near(whole: Set, size: int, folder: Path) -> list[Set]:
    """Each question over the ``size`` papers that BM25 finds nearest to it, and its own: a library on its subject."""
    by_id = {paper.id: paper for paper in whole.papers}
    sets = []
    with SqliteStore(folder / "near.db") as store:
        put(store, whole.papers)
        for question in whole.questions:
            hits = search(store, question.text, plan=Plan(limit=2 * size, depth=2 * size)).hits
            found = [key for key in dict.fromkeys(hit.chunk.place for hit in hits) if key not in question.remove]
            chosen = sorted({*found[:size], *(question.remove & by_id.keys())})
            sets.append(Set(f"{whole.name}, {size} near", tuple(by_id[key] for key in chosen), (question,)))
    (folder / "near.db").unlink()
    return sets


def put(store: SqliteStore, papers: Sequence[Paper], *, abstracts: bool = True) -> None:
    """Index papers as one file; with ``abstracts`` each is kept whole as far as the chunker allows it."""
    documents = (
        Document(paper.title, tuple(map(Block, paper.parts)), paper.id, paper.id, abstract=abstracts) for paper in papers
    )
    store.put(IndexedFile(CORPUS, Stamp(0, 0, ""), ""), documents)


@dataclass(frozen=True)
class Case:
    """One question over a corpus that has its answer, or has not."""

    question: Question
    answerable: bool
    evidence: list[Evidence]
    terms: Terms
    verdict: Verdict


def judged(
    whole: Set, folder: Path, *, abstracts: bool = True, passages: int = BACKGROUND, embedder: Embedder | None = None
) -> Iterator[Case]:
    """The cases of a set: each question as it is, and where it has gold, once more without its papers."""
    stemmer = Stemmer()
    path = folder / f"{zlib.crc32(repr((whole, abstracts)).encode())}.db"
    with SqliteStore(path) as store:
        put(store, whole.papers, abstracts=abstracts)
        if embedder is not None:
            embed_new(store, embedder, Console(stderr=True))
        chunks: dict[str, list[frozenset[str]]] = {}
        for chunk in store.chunks_of_file(CORPUS):
            chunks.setdefault(chunk.place, []).append(frozenset(stemmer.stems(f"{chunk.header} {chunk.text}")))
        for question in whole.questions:
            gone = [stems for paper in question.remove for stems in chunks.get(paper, [])]
            hits = search(store, question.text, embedder=embedder, plan=Plan(limit=passages + len(gone))).hits
            for answerable in (True, False) if question.gold else (False,):
                left = hits if answerable else [hit for hit in hits if hit.chunk.place not in question.remove]
                evidence = read(passages_of(left[:passages]), stemmer)
                terms = terms_of(question.text, store if answerable else Without(store, gone, stemmer), stemmer)
                yield Case(question, answerable, evidence, terms, judge(evidence, terms))
    path.unlink()


@dataclass(frozen=True)
class Without:
    """A store's counts of words as they would be without some chunks."""

    store: SqliteStore
    gone: Sequence[frozenset[str]]
    """The stems of each."""
    stemmer: Stemmer

    def frequencies(self, words: Sequence[str]) -> tuple[int, list[int]]:
        total, counts = self.store.frequencies(words)
        stems = ["".join(self.stemmer.stems(word)) for word in words]
        fewer = [count - sum(stem in some for some in self.gone) for count, stem in zip(counts, stems, strict=True)]
        return total - len(self.gone), fewer
