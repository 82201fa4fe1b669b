"""One row per paper: which row of which file stands for each paper, found in one pass over all of them.

Two rows are the same paper when they have the same id (arXiv versions are one), the same title of at least four words, or
the same abstract, as far as words go. Only hashes and places are kept, in a SQLite file on disk, so a million papers take
little memory; the rows themselves are read a second time when the data set is written. Sources are to be added in the
order of ``inputs.ORDER``: what is there first stays.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from finetune.dataset.inputs import ORDER, Source, paper_id
from finetune.dataset.overlap import tokens
from finetune.dataset.rows import Row
from harness.errors import InputError
from harness.readers.arxiv import parse_id, split_version

TAKEN, WAITING, LEAKED, LEFT = range(4)
"""What became of a paper: it is used; it waits for the moves that its review left open; it stands in an evaluation set;
it is beyond the limit."""
REPEATED = "the same paper and labels stand twice"
OLDER = "another version of the paper is used"
SAME_TEXT = "another paper of the source has its title or abstract"
LEAK = "stands in an evaluation set"
REJECTED = "not among the curated rows"
UNFINISHED = "its review is not finished and no other row has its open moves"
BEYOND = "beyond --limit"
_TITLE_WORDS = 4
"""A shorter title may be that of many papers ("Editorial")."""

_TABLES = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA cache_size = -65536;
CREATE TABLE papers (paper INTEGER PRIMARY KEY, key INTEGER, source INTEGER, file INTEGER, row INTEGER,
                     version INTEGER, labels INTEGER, review INTEGER, state INTEGER);
CREATE TABLE keys (hash INTEGER PRIMARY KEY, paper INTEGER);
"""


class Chosen(NamedTuple):
    """A row that stands for its paper: its number in the file, the paper's key, and the review laid over it, if any."""

    row: int
    key: int
    review: Row | None


class _Paper(NamedTuple):
    paper: int
    key: int
    source: int
    file: int
    row: int
    version: int
    labels: int
    review: int | None
    state: int


def hashed(kind: str, text: str) -> int:
    """A text as 64 bits, equal on every machine and in every run."""
    return int.from_bytes(blake2b(f"{kind}:{text}".encode(errors="replace"), digest_size=8).digest(), "big", signed=True)


def chance(seed: int, purpose: str, key: int) -> float:
    """A number from 0 to 1 for a paper that depends on nothing but the seed, the purpose and the paper."""
    return (hashed(purpose, f"{seed}/{key}") + 2**63) / 2**64


class Merge:
    """The papers so far. ``dropped`` counts (source, reason) of rows that are not used; call ``close`` at the end."""

    def __init__(self, path: Path, files: Sequence[str], moves: int) -> None:
        """``path`` is a new file for the database, ``files`` are the inputs' names, ``moves`` is the number of moves."""
        self.dropped: Counter[tuple[Source, str]] = Counter()
        self._files, self._moves = files, moves
        self._reviews: list[Row] = []
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.executescript(_TABLES)
        self._database.execute("BEGIN")
        self._next = 0

    def close(self) -> None:
        """Close the database; its file may be removed."""
        self._database.close()

    def add(self, source: Source, file: int, row: Row, *, leaks: bool, only_known: bool = False) -> None:
        """Take a row, or count why not. Raises InputError where two rows of a source contradict each other.

        With ``only_known`` the row may complete or repeat a paper that is there, and adds none.
        """
        if row.problem:
            self.dropped[source, row.problem] += 1
            return
        keys = identities(row)
        found = self._find(keys)
        if found is None:
            if only_known:
                self.dropped[source, LEAK if leaks else REJECTED] += 1
            else:
                self._insert(source, file, row, keys, leaks)
            return
        self._register(found.paper, keys)  # whatever has this id, title or abstract is the same paper from now on
        if leaks:
            self._give_up(keys)
        if leaks or found.state == LEAKED:
            self.dropped[source, LEAK] += 1
        elif found.state == WAITING:
            self._complete(found, source, file, row, only_known)
        else:
            self._compare(found, source, file, row, keys[0])

    def _find(self, keys: Sequence[int]) -> _Paper | None:
        """The paper that one of the keys belongs to; the first of them, so an id counts before a title."""
        known = f"SELECT 1 FROM keys WHERE hash IN ({', '.join('?' * len(keys))}) LIMIT 1"
        if self._database.execute(known, keys).fetchone() is None:  # nearly always, and three times as fast
            return None
        query = "SELECT papers.* FROM keys JOIN papers USING (paper) WHERE hash = ?"
        found = (self._database.execute(query, (key,)).fetchone() for key in keys)
        return next((_Paper(*values) for values in found if values), None)

    def _insert(self, source: Source, file: int, row: Row, keys: Sequence[int], leaks: bool) -> None:
        state, review = TAKEN, None
        if row.decided is not None:
            self._reviews.append(row)
            state, review = WAITING, len(self._reviews) - 1
        if leaks:
            state = LEAKED
        values = (self._next, keys[0], ORDER.index(source), file, row.number, version(row), labels(row), review, state)
        self._database.execute("INSERT INTO papers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
        self._register(self._next, keys)
        self._next += 1

    def _register(self, paper: int, keys: Sequence[int]) -> None:
        self._database.executemany("INSERT OR IGNORE INTO keys VALUES (?, ?)", [(key, paper) for key in keys])

    def _give_up(self, keys: Sequence[int]) -> None:
        """All papers of these keys stand in an evaluation set."""
        papers = f"SELECT paper FROM keys WHERE hash IN ({', '.join('?' * len(keys))})"
        self._database.execute(f"UPDATE papers SET state = {LEAKED} WHERE state != {LEFT} AND paper IN ({papers})", keys)

    def _complete(self, found: _Paper, source: Source, file: int, row: Row, only_known: bool) -> None:
        """A paper whose review is unfinished meets another row."""
        if row.decided is not None:
            if not self._join_reviews(found, row):
                self.dropped[source, REPEATED] += 1
                return
        elif only_known:  # the curator has refused it
            self.dropped[source, REJECTED] += 1
            return
        place = (ORDER.index(source), file, row.number, TAKEN, found.paper)
        self._database.execute("UPDATE papers SET source = ?, file = ?, row = ?, state = ? WHERE paper = ?", place)

    def _join_reviews(self, found: _Paper, row: Row) -> bool:
        """Put a second unfinished review of a paper to the first; whether the two decide every move together."""
        first = self._reviews[found.review or 0]
        mine, theirs = row.decided or frozenset(), first.decided or frozenset()
        if first.abstract != row.abstract or any(first.cells.get(move) != row.cells.get(move) for move in mine & theirs):
            self._contradict(found, row)
        cells = {move: cell for move, cell in row.cells.items() if move in mine}
        cells |= {move: cell for move, cell in first.cells.items() if move in theirs}
        self._reviews[found.review or 0] = replace(first, cells=cells, decided=mine | theirs)
        return len(mine | theirs) == self._moves

    def _compare(self, found: _Paper, source: Source, file: int, row: Row, key: int) -> None:
        """A paper that is taken meets another row: an earlier source wins, and within one the newer version."""
        if ORDER[found.source] != source:
            self.dropped[source, f"replaced by {ORDER[found.source]}"] += 1
            return
        own = version(row)
        if found.key != key:
            self.dropped[source, SAME_TEXT] += 1
        elif found.version != own:
            self.dropped[source, OLDER] += 1
            if min(found.version, own) > 0 and own > found.version:
                place = (file, row.number, own, labels(row), found.paper)
                columns = "file = ?, row = ?, version = ?, labels = ?"
                self._database.execute(f"UPDATE papers SET {columns} WHERE paper = ?", place)
        elif row.decided is None and (found.labels & 1) == (labels(row) & 1) and found.labels != labels(row):
            self._contradict(found, row)
        else:
            self.dropped[source, REPEATED] += 1

    def _contradict(self, found: _Paper, row: Row) -> None:
        other = f"row {found.row} of {self._files[found.file]}"
        raise InputError(f"{row.where}: {row.id or 'the paper'} has other labels in {other}", "keep one of the two")

    def limit(self, papers: int, seed: int) -> None:
        """Keep only so many of the papers that are taken so far; the others are as if they had not been given."""
        keys = self._database.execute("SELECT paper, key FROM papers WHERE state = ?", (TAKEN,)).fetchall()
        ranked = sorted(keys, key=lambda entry: (chance(seed, "limit", entry[1]), entry[0]))
        gone = [(paper,) for paper, _ in ranked[papers:]]
        self._database.executemany(f"UPDATE papers SET state = {LEFT} WHERE paper = ?", gone)
        self._database.execute("DELETE FROM keys WHERE paper IN (SELECT paper FROM papers WHERE state = ?)", (LEFT,))

    def finish(self) -> None:
        """Count the papers that are not used after all; nothing is added from here on."""
        reasons = {WAITING: UNFINISHED, LEAKED: LEAK, LEFT: BEYOND}
        query = "SELECT source, state, count(*) FROM papers WHERE state != ? GROUP BY source, state"
        for source, state, count in self._database.execute(query, (TAKEN,)):
            self.dropped[ORDER[source], reasons[state]] += count
        self._database.execute("CREATE INDEX place ON papers (file, row)")
        self._database.execute("COMMIT")

    def chosen(self, file: int) -> Iterator[Chosen]:
        """The rows of a file that stand for their papers, in order."""
        query = "SELECT row, key, review FROM papers WHERE file = ? AND state = ? ORDER BY row"
        for row, key, review in self._database.execute(query, (file, TAKEN)):
            yield Chosen(row, key, None if review is None else self._reviews[review])

    def __len__(self) -> int:
        """How many papers are used."""
        return int(self._database.execute("SELECT count(*) FROM papers WHERE state = ?", (TAKEN,)).fetchone()[0])


def identities(row: Row) -> list[int]:
    """What makes a row the same paper as another, as hashes, the surest first."""
    found = []
    if row.id:
        found.append(hashed("id", paper_id(row.id)))
    title = tokens(row.title)
    # The abstract before the title: it is the paper's key where there is no id.
    if row.abstract.strip():
        found.append(hashed("abstract", " ".join(tokens(row.abstract))))
    if len(title) >= _TITLE_WORDS:
        found.append(hashed("title", " ".join(title)))
    return found or [hashed("place", row.where)]


def version(row: Row) -> int:
    """The arXiv version that a row's id names; 0 where it names none."""
    identity = parse_id(row.id) if row.id else None
    return split_version(identity)[1] if identity else 0


def labels(row: Row) -> int:
    """A row's labels as a hash; the lowest bit says that they are numbers. Text and numbers cannot be compared."""
    by_number = all(cell.numbers is not None for cell in row.cells.values())
    stated = sorted((move, cell.numbers if by_number else cell.text.split()) for move, cell in row.cells.items())
    return (hashed("labels", repr(stated)) & ~1) | by_number
