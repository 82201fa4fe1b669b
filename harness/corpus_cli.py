"""``python agent.py corpus …``: search, filter, aggregate, compare and export everything annotated so far.

Exit codes: 0 done, 1 nothing there or a file that cannot be used, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from harness import corpus_show as show
from harness.annotation_files import read_annotations
from harness.arguments import Parser
from harness.config import Settings
from harness.console import show_records, show_table
from harness.corpus import Corpus, Entry, Share, corpus_path
from harness.corpus_query import Filters, parse_years
from harness.errors import Exit, InputError, UsageError
from harness.outputs import atomic_write, check_target, write_records
from harness.task import file_path

EXAMPLES = """examples:
  corpus search limitation "latency"             within one move
  corpus search '"on device" gpu OR tpu -cloud'  all moves, titles and abstracts; quote a query with a minus
  corpus search limitation                       every stated limitation, the surest first
  corpus list --category cs.CL --year ..2023
  corpus stats --by year --plot
  corpus stats --term privacy --term latency     papers that mention a term beside all papers
  corpus matrix --moves claim,limitation --year 2024.. --out matrix.md
  corpus compare 2402.11651 2409.01907
  corpus export --out all.bib
  corpus import annotated.jsonl
  corpus forget 2402.11651"""
FIELDNAMES = ("id", "title", "authors", "year", "categories", "abstract")
HOW_TO_FILL = "annotate some papers first, for instance: python agent.py '/annotate papers.csv save to out.csv'"


def main(argv: Sequence[str], settings: Settings) -> int:
    """Run one corpus command; gives the exit code. Raises MarginaliaError for what the user can mend."""
    parser = _parser()
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as stop:  # --help
        return int(stop.code or 0)
    if arguments.run is None:
        parser.print_help()
        return Exit.DONE
    arguments.json = arguments.json or settings.json
    arguments.yes = arguments.yes or settings.yes
    with Corpus(corpus_path()) as corpus:
        if arguments.run is not _import and len(corpus) == 0:
            raise InputError("the corpus is empty", HOW_TO_FILL)
        exit_code: Exit = arguments.run(corpus, arguments)
    return int(exit_code)


def _parser() -> Parser:
    common = Parser(add_help=False)
    common.add_argument("--json", action="store_true", help="one JSON object a line")
    common.add_argument("--yes", "-y", action="store_true", help="replace existing files, save anywhere")
    which = Parser(add_help=False)
    which.add_argument("--year", default="", metavar="2024..2026", help="one year or a range, open at either end")
    which.add_argument("--category", action="append", default=[], metavar="cs.CL", help="may be repeated: any of them")
    which.add_argument("--term", action="append", default=[], metavar="QUERY", help="papers that mention it")
    which.add_argument(
        "--min-confidence", type=_confidence, metavar="0-1", help="moves less sure than this count as not stated"
    )

    parser = Parser(prog="marginalia corpus", description="Everything annotated so far.", epilog=EXAMPLES)
    parser.set_defaults(run=None)
    commands = parser.add_subparsers(metavar="COMMAND", parser_class=Parser)

    def command(name: str, run: Any, help: str, *parents: Parser) -> Parser:
        own = [line for line in EXAMPLES.splitlines() if line.startswith(f"  corpus {name} ")]
        epilog = "\n".join(["examples:", *own]) if own else None
        made = commands.add_parser(name, help=help, description=help, parents=[common, *parents], epilog=epilog)
        made.set_defaults(run=run)
        return made

    search = command("search", _search, "find text within a move, or anywhere", which)
    search.add_argument("words", nargs="+", metavar="[MOVE] QUERY")
    search.add_argument("--limit", type=_count, default=20, metavar="N")
    listing = command("list", _list, "the papers of the corpus, the latest year first", which)
    listing.add_argument("--limit", type=_count, metavar="N")
    stats = command("stats", _stats, "share of the papers that state each move", which)
    stats.add_argument("--by", choices=("year", "category"))
    stats.add_argument("--plot", action="store_true", help="bars instead of a table")
    matrix = command("matrix", _matrix, "papers × moves", which)
    matrix.add_argument("--moves", default="", metavar="claim,limitation")
    matrix.add_argument("--out", type=file_path, metavar="FILE", help=".csv, .tsv, .md, .html, .jsonl …")
    compare = command("compare", _compare, "some papers side by side")
    compare.add_argument("ids", nargs="+", metavar="ID")
    export = command("export", _export, "write annotations with all that is known of the papers", which)
    export.add_argument(
        "--out", type=file_path, required=True, metavar="FILE", help=".csv, .tsv, .md, .html, .jsonl, .bib …"
    )
    importing = command("import", _import, "add the annotations of a JSONL file")
    importing.add_argument("file", type=file_path, metavar="annotations.jsonl")
    forget = command("forget", _forget, "remove a paper")
    forget.add_argument("id", metavar="ID")
    return parser


def _confidence(text: str) -> float:
    with suppress(ValueError):
        if 0 <= (value := float(text)) <= 1:
            return value
    raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")


def _count(text: str) -> int:
    if text.isdecimal() and (value := int(text)):
        return value
    raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1")


def _filters(arguments: argparse.Namespace) -> Filters:
    years = parse_years(arguments.year) if arguments.year else (None, None)
    return Filters(years, tuple(arguments.category), tuple(arguments.term), arguments.min_confidence)


def _say(text: str) -> None:
    from harness.console import stderr_console

    stderr_console().print(text)


def _search(corpus: Corpus, arguments: argparse.Namespace) -> Exit:
    move, query = _move_and_query(arguments.words, corpus.moves())
    hits = corpus.search(move, query, _filters(arguments), arguments.limit)
    if arguments.json:
        show_records(show.hit_object(hit) for hit in hits)
    elif hits:
        headers = ("id", "year", "move", "confidence", "text", "sentences", "title")
        show_table(headers, [show.hit_row(hit) for hit in hits], numbers=(3,))
    else:
        _say("nothing found")
    return Exit.DONE


def _move_and_query(words: Sequence[str], moves: Sequence[str]) -> tuple[str | None, str]:
    """``limitation latency`` is a move and a query; without a move's name in front all of it is the query."""
    first, rest = words[0], " ".join(words[1:])
    if first in moves:
        return first, rest
    near = difflib.get_close_matches(first, moves, 1, cutoff=0.8)
    if rest and near:
        raise UsageError(f"there is no move {first!r}", f"did you mean {near[0]!r}? (one quoted query searches all moves)")
    return None, " ".join(words)


def _list(corpus: Corpus, arguments: argparse.Namespace) -> Exit:
    filters = _filters(arguments)
    entries = corpus.matrix(filters, arguments.limit)
    if arguments.json:
        show_records(entry.full_record(filters.min_confidence) for entry in entries)
        return Exit.DONE
    rows = []
    for entry in entries:
        moves = list(entry.record.get("moves") or {})
        stated = sum(entry.move(move, filters.min_confidence) is not None for move in moves)
        facts = entry.facts
        categories = "; ".join(facts.categories)
        rows.append([facts.id, str(facts.year or ""), facts.title, categories, f"{stated}/{len(moves)}"])
    show_table(("id", "year", "title", "categories", "moves stated"), rows, numbers=(4,))
    return Exit.DONE


def _stats(corpus: Corpus, arguments: argparse.Namespace) -> Exit:
    shares, moves = _shares(corpus, arguments), corpus.moves()
    if arguments.json:
        show_records(show.share_object(share, moves) for share in shares)
    elif arguments.plot:
        sys.stdout.writelines(show.share_bars(shares, moves))
    else:
        rows = [show.share_row(share, moves) for share in shares]
        show_table((arguments.by or "group", "papers", *moves), rows, numbers=range(1, len(moves) + 2))
    return Exit.DONE


def _shares(corpus: Corpus, arguments: argparse.Namespace) -> list[Share]:
    """Shares by year or category; without ``--by`` those of all papers, and of the papers that mention each term."""
    filters = _filters(arguments)
    if arguments.by:
        shares = corpus.share(arguments.by, filters)
        if arguments.by == "category":
            shares.sort(key=lambda share: (-share.papers, share.group))
        return [replace(share, group=share.group or "unknown") for share in shares]
    groups = {"all": (), **{term: (term,) for term in filters.terms}}
    shares = []
    for group, terms in groups.items():
        counted = corpus.share(None, replace(filters, terms=terms))
        shares.append(replace(counted[0], group=group))
    return shares


def _matrix(corpus: Corpus, arguments: argparse.Namespace) -> Exit:
    filters, moves = _filters(arguments), _chosen(arguments.moves, corpus.moves())
    if arguments.out:
        check_target(arguments.out, yes=arguments.yes)
    entries = corpus.matrix(filters)
    sure = filters.min_confidence
    if arguments.out and arguments.out.suffix.lower() == ".md":
        with atomic_write(arguments.out, overwrite=arguments.yes) as handle:
            handle.writelines(show.markdown_matrix(entries, moves, sure))
        _say(f"{len(entries)} papers × {len(moves)} moves in {arguments.out}")
    elif arguments.out:
        _save(entries, moves, FIELDNAMES[:5], arguments, sure)
    elif arguments.json:
        show_records(entry.full_record(sure) for entry in entries)
    else:
        rows = [show.entry_row(entry, moves, sure) for entry in entries]
        show_table(("id", "year", "title", *moves), rows, most=show.CELL_CHARACTERS)
    return Exit.DONE


def _chosen(names: str, moves: Sequence[str]) -> list[str]:
    chosen = [name.strip() for name in names.split(",") if name.strip()] or list(moves)
    if unknown := [name for name in chosen if name not in moves]:
        raise UsageError(f"there is no move {unknown[0]!r}", f"the corpus has {', '.join(moves)}")
    return chosen


def _compare(corpus: Corpus, arguments: argparse.Namespace) -> Exit:
    entries = [entry for paper_id in arguments.ids for entry in _known(corpus, paper_id)]
    if arguments.json:
        show_records(entry.full_record() for entry in entries)
        return Exit.DONE
    asked = {move for entry in entries for move in entry.record.get("moves") or {}}
    moves = [move for move in corpus.moves() if move in asked]
    columns = [show.entry_row(entry, moves, None) for entry in entries]
    rows = [list(row) for row in zip(("year", "title", *moves), *(column[1:] for column in columns), strict=True)]
    show_table(("", *(column[0] for column in columns)), rows)
    return Exit.DONE


def _known(corpus: Corpus, paper_id: str) -> list[Entry]:
    entries = corpus.find(paper_id)
    if not entries:
        raise InputError(f"{paper_id!r} is not in the corpus", "see corpus list for the ids")
    return entries


def _export(corpus: Corpus, arguments: argparse.Namespace) -> Exit:
    check_target(arguments.out, yes=arguments.yes)
    filters = _filters(arguments)
    _save(corpus.matrix(filters), corpus.moves(), FIELDNAMES, arguments, filters.min_confidence)
    return Exit.DONE


def _save(
    entries: Sequence[Entry],
    moves: Sequence[str],
    fieldnames: Sequence[str],
    arguments: argparse.Namespace,
    min_confidence: float | None,
) -> None:
    records = [entry.full_record(min_confidence) for entry in entries]
    facts = [entry.facts.row() for entry in entries]
    rows = [{name: row[name] for name in fieldnames} for row in facts]
    out = arguments.out
    write_records(out, records, moves=moves, rows=rows, fieldnames=fieldnames, title="Corpus", overwrite=arguments.yes)
    _say(f"{len(entries)} papers in {out}")


def _import(corpus: Corpus, arguments: argparse.Namespace) -> Exit:
    added = corpus.add(read_annotations(arguments.file), source=arguments.file.name)
    if arguments.json:
        show_records([{"new": added.new, "replaced": added.replaced, "left_out": added.left_out}])
        return Exit.DONE
    _say(f"{added.new} papers added, {added.replaced} replaced, {added.left_out} left out (failed or an older version)")
    return Exit.DONE


def _forget(corpus: Corpus, arguments: argparse.Namespace) -> Exit:
    _known(corpus, arguments.id)
    forgotten = corpus.forget(arguments.id)
    if arguments.json:
        show_records([{"forgotten": [{"id": facts.id, "title": facts.title} for facts in forgotten]}])
        return Exit.DONE
    for facts in forgotten:
        _say(f"forgotten: {facts.id} {facts.title}")
    return Exit.DONE
