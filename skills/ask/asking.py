"""What the questions of one task share (index, scope, models), and how one or many of them are answered with it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from harness.errors import InputError, MarginaliaError, ModelError, NoModelError, UsageError
from harness.search.index import Options
from harness.search.indexing import LOCK_SECONDS, bring_up_to_date, paths_in, usual_workers
from harness.search.search import Line, parse_line
from harness.search.store import Files, Scope, Store
from harness.search.stores import open_store
from harness.task import Task
from skills.ask.answering import Meter, answer, record_of, threshold_for
from skills.ask.conversation import Conversation, conversation
from skills.ask.follow_up import is_follow_up, rewritten
from skills.ask.look_up import Desk, LookedUp, look_up
from skills.ask.options import AskOptions
from skills.ask.routing import route, served_tags
from skills.ask.show import streaming
from skills.ask.terms import Stemmer

if TYPE_CHECKING:
    from harness.context import Context
    from harness.search.late import TokenEncoder
    from harness.search.vectors import Embedder
    from skills.ask.questions import Questions

TASK = "ask"


class Asking:
    """What the questions of one task share: index, scope, embedding model, chat models."""

    def __init__(self, options: AskOptions, context: Context, stack: ExitStack) -> None:
        self._options, self._context = options, context
        self._store = stack.enter_context(open_store(context.settings))
        files, self._notes = documents(self._store, options, context)
        embedder = self._open_embedder(stack, files)
        self._desk = Desk(self._store, Scope(files, options.references), Stemmer(), embedder, self._open_late())
        self._tags: list[str] | None = None
        self._no_model = ""
        self.meters: dict[str, Meter] = {}
        """The chat models that were opened, by name."""

    def single(self, question: str) -> dict[str, Any]:
        """The record of one question; in the REPL it may lean on those before it."""
        before = conversation(self._context.memory)
        model, routing = self._model(question)
        asked, desk, notes = question, self._desk, list(self._notes)
        if is_follow_up(question, desk.stemmer) and before.turns:
            asked = rewritten(question, before.turns, desk.stemmer, model)
            desk = self._desk_of(before)
            notes += [f"understood as: {asked}"] if asked != question else []
        looked = self._look_up(desk, asked, model, notes, question if asked != question else "")
        if self._options.explain:
            say([f"model: {routing}", *looked.account()], self._context)
        try:
            with streaming(self._context.console, self._streams(model)) as on_text:
                found = answer(looked, model, on_text=on_text)
        except ModelError as error:
            found = answer(looked, None)
            notes.append(f"the chat model failed: {error}")
        found = replace(found, question=question, notes=(*found.notes, *notes))
        before.add(asked, "" if found.abstained else found.answer, desk.scope.files)
        self._cost(model)
        record = record_of(found, looked, explain=self._options.explain)
        if self._options.explain:
            record["explain"]["routing"] = routing
        return record

    def batch(self, source: Questions) -> list[dict[str, Any]]:
        """The records of a file of questions."""
        from harness.jobs.progress import duration
        from harness.rate import Rate
        from skills.ask.batch import answer_all

        def ready(question: str) -> tuple[LookedUp, Meter | None]:
            model, _ = self._model(question)
            return self._look_up(self._desk, question, model, []), model

        salt: list[Any] = []
        if self._options.fresh:
            from secrets import token_hex

            salt.append(token_hex(8))
        rate = Rate(self._options.rate) if self._options.rate else None
        explain = self._options.explain
        records, summary = answer_all(source.rows, ready, self._context, explain=explain, salt=salt, rate=rate)
        abstained = sum(record["abstained"] for record in records)
        counts = [f"{len(records)} questions: {summary.done - abstained} answered", f"{abstained} not answered"]
        counts += [f"{summary.failed} failed"] if summary.failed else []
        counts += [f"{summary.cached} of them known already"] if summary.cached else []
        say([f"{', '.join(counts)}, in {duration(summary.seconds)}", *self._notes], self._context)
        return records

    def _look_up(self, desk: Desk, question: str, model: Meter | None, notes: list[str], focus: str = "") -> LookedUp:
        lines = [*self._options.search_lines, *(self._expansion(question, notes) if self._options.expand else ())]
        threshold = threshold_for(self._options.threshold, model is not None)
        reranker = (model, self._options.rerank) if model is not None and self._options.rerank else None
        if self._options.rerank and model is None:
            notes.append("not reranked: there is no chat model")
        return look_up(desk, question, self._options.passages, threshold, lines, reranker, focus)

    def _desk_of(self, before: Conversation) -> Desk:
        """The desk for a follow-up: it is looked for where the question before it was, unless files are named anew."""
        if self._options.docs or before.files is None:
            return self._desk
        return replace(self._desk, scope=Scope(before.files, self._options.references))

    def _expansion(self, question: str, notes: list[str]) -> list[Line]:
        """What /expand makes of the question; where it cannot, a note says so."""
        task = Task(question, "expand", f'"{question}"')
        try:
            outcome = self._context.skill("expand").run(task, self._context)
        except MarginaliaError as error:
            notes.append(f"searched without an expansion: {error.message}")
            return []
        return [parse_line(f"{line['type']}: {line['text']}") for line in outcome.records[0]["lines"]]

    def _open_embedder(self, stack: ExitStack, files: Files) -> Embedder | None:
        """The embedding model in force, ``files`` embedded by it; one of the settings that cannot run is only a remark."""
        settings = self._context.settings
        if self._options.embed is None and not settings.embedder:
            return None
        from harness.search.embedders import embedder_name, open_embedder

        name = embedder_name(self._options.embed, settings)
        if not name:
            return None
        try:
            embedder = open_embedder(name, self._context.settings, self._context.console)
            stack.callback(embedder.close)
            self._embed(embedder, name, files)
        except MarginaliaError as error:
            if self._options.embed:
                raise
            say([f"searched by words alone: {error}"], self._context)
            return None
        return embedder

    def _open_late(self) -> TokenEncoder | None:
        """The model of late interaction, where one is named."""
        if not self._options.late:
            return None
        from harness.search.late import open_encoder

        return open_encoder(self._options.late, offline=self._context.settings.offline)

    def _embed(self, embedder: Embedder, name: str, files: Files) -> None:
        """Embed the files that ``--docs`` named; of all that is indexed it is a remark, for it may take hours."""
        from harness.locks import locked
        from harness.search.embedders import embed_new

        if not (missing := self._store.missing(embedder, files)):
            return
        if files is None:
            say([f"{missing} passages have no vector of this model yet: /index --embed {name}"], self._context)
            return
        with locked(self._store.lock, seconds=LOCK_SECONDS):
            embed_new(self._store, embedder, self._context.console, files)

    def _model(self, question: str) -> tuple[Meter | None, str]:
        """The chat model that shall answer, if there is one, and why it is this one."""
        if self._options.extractive:
            return None, "none: --extractive"
        if self._no_model:
            return None, self._no_model
        if self._tags is None:
            self._tags = served_tags()
        chosen = route(question, self._tags)
        try:
            model = self._context.open_model(TASK, variant=chosen.variant)
        except NoModelError as error:
            if self._context.settings.model:
                raise
            self._no_model = f"none: {error.message}"
            say(["no chat model is here: the answer is made of sentences of the papers"], self._context)
            return None, self._no_model
        meter = self.meters.setdefault(model.info.name, Meter(model))
        return meter, f"{model.info.name} ({model.info.backend}): {chosen.why}"

    def _streams(self, model: Meter | None) -> bool:
        settings = self._context.settings
        return model is not None and not settings.json and not self._options.json

    def _cost(self, model: Meter | None) -> None:
        if model is not None and model.largest:
            whole = f" of {model.info.context:,}" if model.info.context else ""
            read, wrote = f"{model.prompt_tokens:,} tokens read", f"{model.completion_tokens:,} written"
            say([f"{read}, {wrote}; context {model.largest:,}{whole}"], self._context)


def documents(store: Store, options: AskOptions, context: Context) -> tuple[tuple[str, ...] | None, list[str]]:
    """Where to look: the files that ``--docs`` names, brought up to date first, or None for the whole index; and notes.

    Raises UsageError where there is nothing to look in, InputError where none of the files can be read.
    """
    if not options.docs:
        if not any(file.chunks for file in store.files().values()):
            raise UsageError(
                "/ask: the index holds no papers",
                'name some: /ask --docs papers/ "QUESTION", or index them: /index papers/',
            )
        return None, []
    paths = [path for given in options.docs for path in paths_in(given)]
    reading = Options(passwords=options.passwords, workers=usual_workers(context.settings.workers), as_before=True)
    results = [result for result in bring_up_to_date(store, paths, reading, context.console) if result.status != "removed"]
    failed = sum(bool(result.file.error) for result in results)
    if failed == len(results):
        raise InputError(f"none of the files in {', '.join(options.docs)} can be read", "see above why")
    twins = [result.file.same_as for result in results if result.file.same_as]  # these stand for files given
    notes = [f"{failed} of {len(results)} files could not be read"] if failed else []
    return tuple(dict.fromkeys([*(str(path.resolve()) for path in paths), *twins])), notes


def say(lines: Sequence[str], context: Context) -> None:
    """Lines on stderr, as they are."""
    for line in lines:
        context.console.print(line, markup=False, highlight=False, soft_wrap=True)
