"""Abstracts with section heads (``METHODS: …``), as PubMed prints them, from sentences that carry a section each.

    python -m finetune.dataset.section_heads ../shared/data/moves/pubmed_structured.jsonl --out finetune_output/pubmed.jsonl

A row in has ``doc_id``, ``title``, ``sentences`` and ``labels``, the head of each sentence's section (a * marks one that
was added by others); a row out has ``arxiv_id`` (the id, whatever it is of), ``title`` and ``abstract``. The head stands
before the first sentence of its section. Rows without an id, a title or as many heads as sentences are an error.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from finetune.dataset.abstracts import read_jsonl
from finetune.dataset.gold_labels import folded, write_gold
from harness.arguments import guarded
from harness.errors import InputError

UNLABELLED = "UNLABELLED"
"""PubMed's word for a section that has no head in print."""
_HEAD = re.compile(r"[A-Z][A-Z/&,'() -]{2,60}: (?=\S)")
"""At the beginning of a sentence; an acronym with a colon (``CNN: a network``) is one, too, from three letters on."""


def without_head(sentence: str) -> str:
    """A sentence without the section head that it begins with, its first letter a capital.

    >>> without_head("MATERIALS AND METHODS: we asked 40 patients."), without_head("We asked 40 patients: all agreed.")
    ('We asked 40 patients.', 'We asked 40 patients: all agreed.')
    """
    head = _HEAD.match(sentence)
    return sentence[head.end()].upper() + sentence[head.end() + 1 :] if head else sentence


def with_heads(sentences: Sequence[str], heads: Sequence[str]) -> str:
    """One abstract; each head before the first sentence of its section.

    >>> with_heads(["We ask.", "40 patients.", "All left."], ["AIM", "METHODS", "METHODS"])
    'AIM: We ask. METHODS: 40 patients. All left.'
    """
    bare = [head.strip("* ") for head in heads]
    begins = [True, *(one != other for one, other in pairwise(bare))]
    shown = [begin and head not in ("", UNLABELLED) for begin, head in zip(begins, bare, strict=True)]
    parts = zip(sentences, bare, shown, strict=True)
    return " ".join(f"{head}: {folded(text)}" if show else folded(text) for text, head, show in parts)


def abstracts(path: Path) -> Iterator[Mapping[str, Any]]:
    """The papers of a file. Raises InputError naming the row that has not what is needed."""
    for number, row in enumerate(read_jsonl(path), 1):
        sentences, heads = row.get("sentences") or [], row.get("labels") or []
        if not row.get("doc_id") or not row.get("title") or not sentences or len(sentences) != len(heads):
            raise InputError(f"{path}, row {number}: no id, title, sentences and a head for each", "mend or drop the row")
        yield {"arxiv_id": str(row["doc_id"]), "title": folded(row["title"]), "abstract": with_heads(sentences, heads)}


@guarded
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path, help="JSONL of sentences with section heads")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    papers = list(abstracts(args.rows))
    write_gold(papers, args.out)
    print(f"{len(papers):,} abstracts in {args.out}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
