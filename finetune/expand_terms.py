"""Count which terms go with which words in a corpus of abstracts, for ``skills/expand/related.py``.

    python -m finetune.expand_terms ../shared/data/papers/arxiv_abstracts.jsonl.gz -o finetune_output/qmd/terms.json.gz

Terms are phrases of two or three words that stand together more often than by chance, and rarer single words. A term goes
with a word by normalised pointwise mutual information of standing in one abstract (Bouma 2009). The table holds words and
counts, no text of the corpus. It also lists which words there are at all, those of the training rows (``--rows``) among
them: a small model now and then writes some that there are not.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from finetune.dataset.abstracts import read_jsonl
from finetune.dataset.expansion_abstracts import SCAFFOLD, Paper, papers_of, phrases
from finetune.dataset.expansion_schema import Example, load_examples
from finetune.rewards.words import FUNCTION_WORDS
from harness.arguments import Parser, guarded
from harness.errors import InputError
from harness.outputs import atomic_write
from skills.expand.words import content_words, singular, words

LEAST_TERM, LEAST_KEY = 12, 4
"""Papers that must have a term, and a word."""
LEAST_WORD = 3
"""Papers that must have a word for it to be one; in fewer many are misprints."""
COMMON_TERM, COMMON_KEY = 0.01, 0.05
"""Shares of the papers: a single word in more is no term, a word in more goes with everything."""
FEW = 50
"""Papers that are not too many in any corpus."""
TOGETHER = 3
"""Papers that must have both."""
LEAST_NPMI = 0.15
KEPT = 32
"""Terms of a word."""
CHUNK = 1000
"""Words that are counted at once."""


def read_paper(paper: Paper) -> tuple[set[str], set[str]]:
    """The keys of a paper, and what may be its terms."""
    text = " . ".join((paper.title, *paper.sentences)).casefold()
    found = content_words(text)
    single = {word for word in found if len(word) > 4 and word.isalpha() and word not in FUNCTION_WORDS | SCAFFOLD}
    return {singular(word) for word in found}, single | {" ".join(phrase) for phrase in phrases(text)}


def vocabularies(read: Sequence[tuple[set[str], set[str]]]) -> tuple[list[str], list[str]]:
    """Keys and terms worth counting, each in alphabetical order."""
    keys, terms = Counter[str](), Counter[str]()
    for own, said in read:
        keys.update(own)
        terms.update(said)
    total = len(read)

    def is_term(term: str, count: int) -> bool:
        if count < LEAST_TERM:
            return False
        parts = term.split()
        if len(parts) == 1:
            return count <= max(FEW, COMMON_TERM * total)
        expected = float(total)
        for part in parts:
            expected *= max(keys[singular(part)], count) / total
        return count > 6 * expected

    most = max(FEW, COMMON_KEY * total)
    chosen = sorted(term for term, count in terms.items() if is_term(term, count))
    return sorted(key for key, count in keys.items() if LEAST_KEY <= count <= most), chosen


def matrix(sets: Iterable[set[str]], names: Sequence[str]) -> Any:
    """``[papers, names]``, 1 where a paper has the name (sparse)."""
    import numpy as np
    from scipy.sparse import csr_matrix

    places = {name: place for place, name in enumerate(names)}
    rows = [np.array(sorted(places[one] for one in own if one in places), dtype=np.int32) for own in sets]
    starts = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    columns = np.concatenate(rows)
    return csr_matrix((np.ones(len(columns), dtype=np.int32), columns, starts), shape=(len(rows), len(names)))


def count(papers: Sequence[Paper]) -> dict[str, Any]:
    """The table: ``terms``, and for each key ``[[term, weight], …]``. Raises InputError where there is too little."""
    import numpy as np

    read = [read_paper(paper) for paper in papers]
    keys, terms = vocabularies(read)
    if not keys or not terms:
        raise InputError(f"{len(papers)} abstracts are too few to count terms in", "give some thousands")
    of_keys, of_terms = matrix((own for own, _ in read), keys).T.tocsr(), matrix((said for _, said in read), terms)
    key_counts, term_counts = of_keys.sum(1).A1, of_terms.sum(0).A1
    found: dict[str, list[list[int]]] = {}
    for start in range(0, len(keys), CHUNK):
        joint = (of_keys[start : start + CHUNK] @ of_terms).tocsr()
        for row in range(joint.shape[0]):
            places = joint.indices[joint.indptr[row] : joint.indptr[row + 1]]
            together = joint.data[joint.indptr[row] : joint.indptr[row + 1]].astype(np.float64)
            share = together / len(papers)
            lift = np.log(together * len(papers) / (key_counts[start + row] * term_counts[places]))
            weight = np.where(together >= TOGETHER, lift / -np.log(share), 0.0)
            # Between terms that go with it equally well, the one that more papers know is the better guess.
            order = np.lexsort((places, -together, -weight.round(2)))[:KEPT]
            if kept := [[int(places[i]), int(min(99, 100 * weight[i]))] for i in order if weight[i] >= LEAST_NPMI]:
                found[keys[start + row]] = kept
    return {"terms": terms, "keys": found}


def compact(table: dict[str, Any]) -> dict[str, Any]:
    """The table with the terms that are used only."""
    used = sorted({place for pairs in table["keys"].values() for place, _ in pairs})
    new = {old: place for place, old in enumerate(used)}
    keys = {key: [[new[place], weight] for place, weight in pairs] for key, pairs in table["keys"].items()}
    return {"terms": [table["terms"][old] for old in used], "keys": keys}


def known_words(papers: Iterable[Paper], rows: Iterable[Example]) -> list[str]:
    """What the words of papers and of training rows are, singular, in alphabetical order."""
    in_papers = Counter(word for paper in papers for word in _alphabetic(" ".join((paper.title, *paper.sentences))))
    in_rows = {
        word for row in rows for text in (row.query, *(text for _, text in row.output)) for word in _alphabetic(text)
    }
    return sorted(in_rows | {word for word, count in in_papers.items() if count >= LEAST_WORD})


def _alphabetic(text: str) -> set[str]:
    return {singular(word) for word in words(text) if word.isalpha()}


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says."""
    parser = Parser(prog="python -m finetune.expand_terms", description=__doc__)
    parser.add_argument("abstracts", type=Path, help="JSONL (.gz) with title and abstract")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help="the table (.json.gz)")
    parser.add_argument("--rows", type=Path, action="append", default=[], metavar="FILE", help="JSONL of training rows")
    parser.add_argument("--papers", type=int, default=100000, help="abstracts that are read (default 100000)")
    args = parser.parse_args(argv)
    papers = list(papers_of(read_jsonl(args.abstracts), args.papers))
    rows = load_examples(args.rows) if args.rows else []
    table = compact(count(papers)) | {"words": known_words(papers, rows)}
    text = json.dumps(table, separators=(",", ":"), sort_keys=True)
    with atomic_write(args.out, binary=True) as handle:
        handle.write(gzip.compress(text.encode(), 9, mtime=0))
    told = f"{len(table['terms'])} terms of {len(table['keys'])} words, {args.out.stat().st_size:,} bytes"
    print(f"{args.out}: {told}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
