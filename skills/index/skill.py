"""/index: files into the search index, and passages out of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import Exit, InputError, MarginaliaError, UsageError
from harness.search.indexing import paths_in
from harness.skills import Outcome
from harness.task import Task
from skills.index.options import FLAGS, IndexOptions, options_of

if TYPE_CHECKING:
    from harness.context import Context
    from harness.search.index import Options, Result
    from harness.search.search import Found, Line, Plan
    from harness.search.store import IndexedFile, Store

__all__ = ["FLAGS", "run"]

_SHOWN = 300
"""Characters of a passage that are shown to people; machines get all of it."""


def run(task: Task, context: Context) -> Outcome:
    """Index, list, find or forget, as the flags say. Exit 1 when a file could not be indexed, or nothing was found."""
    options = options_of(task)
    if task.save_to:
        raise UsageError("/index saves nothing but its index", "use --json and redirect the output")
    paths = paths_in(task.text)
    from harness.search.indexing import bring_up_to_date
    from harness.search.stores import open_store

    with open_store(context.settings) as store:
        if options.find:
            if paths:
                results = bring_up_to_date(store, paths, reading(options, context), context.console)
                paths += [Path(result.file.same_as) for result in results if result.file.same_as]  # stand for files given
            return find(store, paths, options, context)
        if options.forget:
            return forget(store, options.forget)
        if options.list:
            return listed(list(store.files().values()))
        if not paths and not options.embed:
            raise UsageError("/index: nothing to index", "for example /index papers/, or /index --list")
        return index(store, paths, options, context)


def reading(options: IndexOptions, context: Context) -> Options:
    """How files are read."""
    from harness.search.index import Options
    from harness.search.indexing import usual_workers
    from harness.search.pdf_process import Limits

    return Options(
        passwords=options.passwords,
        columns=dict(options.columns),
        limits=Limits(options.pages, options.seconds),
        workers=usual_workers(context.settings.workers),
        fresh=options.fresh,
        docling=options.docling,
    )


def index(store: Store, paths: Sequence[Path], options: IndexOptions, context: Context) -> Outcome:
    """Bring the index up to date with files and folders, and with the embedding model, if there is one."""
    from harness.locks import locked
    from harness.search.indexing import LOCK_SECONDS, bring_up_to_date

    results = bring_up_to_date(store, paths, reading(options, context), context.console) if paths else []
    with locked(store.lock, seconds=LOCK_SECONDS):
        embedded, done = embed(store, options, context)
    failed = sum(result.status == "failed" for result in results)
    return Outcome(
        text="; ".join([*([summary(results)] if paths else []), *embedded]),
        records=[file_record(result.file, result.status, result.notes) for result in results],
        exit=Exit.FAILED if failed or not done else Exit.DONE,
        details={"files": len(results), "failed": failed},
    )


def embed(store: Store, options: IndexOptions, context: Context) -> tuple[list[str], bool]:
    """Embed what is new to the embedding model; what there is to say of it, nothing where there is no model, and whether
    it is done. A model of the settings that cannot run leaves the index to words."""
    from harness.search.embedders import embed_new, embedder_name, open_embedder

    name = embedder_name(options.embed, context.settings)
    if not name:
        return [], True
    try:
        with open_embedder(name, context.settings, context.console) as embedder:
            return [f"embedded {embed_new(store, embedder, context.console)} passages"], True
    except MarginaliaError as error:
        if options.embed:
            raise
        return [f"indexed by words alone: {error}"], False


def summary(results: Sequence[Result]) -> str:
    """``12 files: 3 new, 9 unchanged; 48 pages, 210 chunks``."""
    counts: dict[str, int] = {}
    for result in results:
        counts[result.status] = counts.get(result.status, 0) + 1
    made = [result.file for result in results if result.status in ("new", "changed")]
    parts = [f"{count} {'the same as another' if status == 'same' else status}" for status, count in counts.items()]
    pages, chunks = sum(file.pages for file in made), sum(file.chunks for file in made)
    read = f"; read {pages} pages, made {chunks} chunks" if made else ""
    return f"{len(results)} files: {', '.join(parts) or 'none'}{read}"


def file_record(file: IndexedFile, status: str, notes: Sequence[str] = ()) -> dict[str, Any]:
    """A file for machines."""
    facts = {key: value for key, value in asdict(file).items() if key not in ("stamp", "path")}
    return {"file": file.path, "status": status, **facts, "notes": list(notes)}


def listed(files: Sequence[IndexedFile]) -> Outcome:
    """What is in the index."""
    lines = []
    for file in files:
        what = file.error or (
            f"same as {file.same_as}" if file.same_as else f"{file.documents} papers, {file.chunks} chunks"
        )
        lines.append(f"- {file.path}: {what}")
    total = f"{len(files)} files, {sum(file.chunks for file in files)} chunks"
    records = [file_record(file, "failed" if file.error else "indexed") for file in files]
    return Outcome(text="\n".join([*lines, "", total]) if files else "the index is empty", records=records)


def forget(store: Store, path: Path) -> Outcome:
    """Take a file, or all files below a folder, out of the index. Raises InputError where none is in it."""
    wanted = path.resolve()
    gone = [file for file in store.files().values() if Path(file.path).is_relative_to(wanted)]
    if not gone:
        raise InputError(f"{path} is not in the index", "see what is: /index --list")
    store.remove([file.path for file in gone])
    records = [file_record(file, "removed") for file in gone]
    return Outcome(text=f"forgot {len(gone)} files, {sum(file.chunks for file in gone)} chunks", records=records)


def find(store: Store, paths: Sequence[Path], options: IndexOptions, context: Context) -> Outcome:
    """The best passages for a query, in all of the index or in some files."""
    from harness.search.feedback import Feedback
    from harness.search.rerank import TOP, rerank
    from harness.search.search import Plan, explain, parse_line, record
    from harness.search.store import Scope

    files = tuple(str(path.resolve()) for path in paths) if paths else None
    scope, feedback = Scope(files, options.references), Feedback() if options.corpus else None
    plan = Plan(limit=max(options.limit, TOP * bool(options.rerank)), scope=scope, feedback=feedback)
    found = look_up(store, options, [parse_line(line) for line in options.lines], plan, context)
    if options.rerank:
        model = context.open_model("index", general=True)
        found = rerank(found, options.find, model, seconds=options.rerank, limit=options.limit)
    if not found.hits:
        where = "these files" if paths else "the index"
        remedy = "; ".join([*found.notes, "see what is indexed: /index --list"])
        raise InputError(f"no passage in {where} has what was asked for", remedy)
    lines = []
    for number, hit in enumerate(found.hits, 1):
        chunk = hit.chunk
        text = " ".join(chunk.text.split())
        lines += [
            f"**[{number}]** {Path(chunk.file).name}{f', {chunk.where}' if chunk.where else ''}: {chunk.header}",
            "",
            f"> {text if len(text) <= _SHOWN else text[:_SHOWN] + '…'}",
            "",
        ]
    if options.explain:
        lines += ["```text", *explain(found), "```"]
    else:
        lines += list(found.notes)
    records = [record(hit, number, options.explain) for number, hit in enumerate(found.hits, 1)]
    return Outcome(text="\n".join(lines).rstrip(), records=records)


def look_up(store: Store, options: IndexOptions, lines: Sequence[Line], plan: Plan, context: Context) -> Found:
    """Search by words and, with an embedding model, by meaning; files that were given are embedded first. A model of the
    settings that cannot run is only a remark."""
    from harness.locks import locked
    from harness.search.embedders import embed_new, embedder_name, open_embedder
    from harness.search.indexing import LOCK_SECONDS
    from harness.search.search import search

    files = plan.scope.files
    if name := embedder_name(options.embed, context.settings):
        try:
            with open_embedder(name, context.settings, context.console) as embedder:
                missing = store.missing(embedder, files)
                if missing and files is not None:
                    with locked(store.lock, seconds=LOCK_SECONDS):
                        missing -= embed_new(store, embedder, context.console, files)
                found = search(store, options.find, lines=lines, embedder=embedder, plan=plan)
                if missing > 0:
                    note = f"{missing} passages have no vector of this model yet: /index --embed {name}"
                    found = replace(found, notes=(*found.notes, note))
                return found
        except MarginaliaError as error:
            if options.embed:
                raise
            context.console.print(f"searched by words alone: {error}", markup=False, highlight=False, soft_wrap=True)
    return search(store, options.find, lines=lines, plan=plan)
