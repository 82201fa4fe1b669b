"""Embedding models by name: from the user's Ollama or a GGUF file, with the prefixes that their families want."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from harness.errors import ContextOverflow, InputError, NoModelError
from harness.readers.text import writable
from harness.search.index import embed
from harness.search.vectors import Embedder, Matrix

if TYPE_CHECKING:
    from rich.console import Console

    from harness.config import Settings
    from harness.models.embedding import EmbeddingModel
    from harness.search.store import Files, Store

NONE = "none"
"""The name that stands for: no embedding model, whatever the settings say."""
AUTO = "auto"
"""The prefix that stands for: what the model's family wants."""


class Prefixes(NamedTuple):
    """What a model was trained to see before a question and before a passage."""

    query: str = ""
    passage: str = ""


_INSTRUCTION = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"
_SEARCHING = "Represent this sentence for searching relevant passages: "
FAMILIES: tuple[tuple[str, Prefixes], ...] = (
    ("nomic-embed-text|nomic-bert", Prefixes("search_query: ", "search_document: ")),
    ("modernbert-embed", Prefixes("search_query: ", "search_document: ")),
    ("embedding-?gemma|gemma-embedding", Prefixes("task: search result | query: ", "title: none | text: ")),
    ("qwen3-embedding", Prefixes(_INSTRUCTION)),
    ("e5-mistral|e5-[a-z]+-instruct|gte-qwen2", Prefixes(_INSTRUCTION + " ")),
    ("(multilingual-)?e5-(small|base|large)", Prefixes("query: ", "passage: ")),
    ("bge-m3|bge-(small|base|large)-zh", Prefixes()),
    ("bge-(small|base|large)", Prefixes(_SEARCHING)),
    ("mxbai-embed", Prefixes(_SEARCHING)),
    ("arctic-embed(2|-[a-z]+-v2)", Prefixes("query: ")),
    ("arctic-embed", Prefixes(_SEARCHING)),
    ("all-minilm|paraphrase|gte-|jina-embeddings-v2|granite-embedding", Prefixes()),
)
"""Parts of names (regular expressions over lower case, signs as ``-``) and prefixes by the models' own cards; the first
one that fits counts."""


def prefixes_of(family: str) -> Prefixes | None:
    """The prefixes of a model by all that is known of its name; None for a family that is not in the table.

    >>> prefixes_of("nomic-embed-text:latest").passage
    'search_document: '
    >>> prefixes_of("snowflake-arctic-embed2:568m").query
    'query: '
    """
    name = re.sub(r"[^a-z0-9]+", "-", family.lower())
    return next((prefixes for part, prefixes in FAMILIES if re.search(rf"(?:^|-)(?:{part})", name)), None)


def embedder_name(given: str | None, settings: Settings) -> str:
    """The embedding model in force: the option, else the setting; "" for none, which is how it is by default."""
    name = settings.embedder if given is None else given
    return "" if name.lower() == NONE else name


def open_embedder(name: str, settings: Settings, console: Console) -> Embedder:
    """The embedding model ``name``: the path of a ``.gguf`` file, or a model of the Ollama daemon. Close it after use.

    Its vectors are kept under the file's SHA-256, or under Ollama's name and digest. What is taken, and with which
    prefixes, is one line on stderr. Raises InputError, ModelError, NoModelError, Offline.
    """
    model = open_model(name, settings)
    family = prefixes_of(model.family)
    query, passage = _chosen(family or Prefixes(), settings)
    info = model.info

    def tell(line: str) -> None:
        console.print(line, style="dim", markup=False, highlight=False, soft_wrap=True)

    guessed = "" if family else ", its family is not known"
    tell(f"embeddings: {info.name} ({info.backend}{guessed}), prefixes {query!r} and {passage!r}")
    key = info.digest if info.backend == "embedded" else f"{info.name}@{info.digest}"
    return Embedder(key, Whole(model, (query, passage), tell), passage, query, model.close)


def _chosen(usual: Prefixes, settings: Settings) -> Prefixes:
    """The prefixes of the settings, the usual ones where they say so."""
    query, passage = settings.embedder_query_prefix, settings.embedder_passage_prefix
    return Prefixes(usual.query if query == AUTO else query, usual.passage if passage == AUTO else passage)


def open_model(name: str, settings: Settings) -> EmbeddingModel:
    """The model alone. Raises as ``open_embedder``."""
    path = Path(os.path.expanduser(name))
    if path.suffix.lower() == ".gguf":
        from harness.models.embedded_embedding import EmbeddedEmbedding

        if not path.is_file():
            raise InputError(f"{path}: no such file", "give the path of a .gguf file")
        return EmbeddedEmbedding(path, threads=settings.threads)
    from harness.models.here import Here
    from harness.models.ollama_embedding import OllamaEmbedding

    here = Here(settings)
    if here.installed(name) is None:
        here.daemon.close()
        if here.no_ollama:
            remedy = "start it (ollama serve), or give the path of a .gguf file"
            raise NoModelError(f"the embedding model {name} cannot be opened: {here.no_ollama}", remedy)
        from harness.models.ollama_errors import no_such_model

        raise no_such_model(name, [model.name for model in here.models])
    return OllamaEmbedding(here.daemon, name)


def embed_new(store: Store, embedder: Embedder, console: Console, files: Files = None) -> int:
    """Embed what has no vector of this model yet, in some files of a store or in all, with progress on ``console``; how
    much it was.

    What is done stays done when it is stopped. Raises ModelError.
    """
    total = store.missing(embedder, files)
    if not total:
        return 0
    from harness.jobs.progress import Progress

    with Progress(console, total, "passages embedded") as progress:
        return embed(store, embedder, progress.advance, files)


class Whole:
    """``Embed`` by a model, of texts of any length.

    A text longer than the model's window is embedded in halves, at white space, each with its prefix; its vector is
    their mean, weighted by length. So all of it counts, where a cut would drop its end.
    """

    def __init__(self, model: EmbeddingModel, prefixes: Sequence[str], tell: Callable[[str], None]) -> None:
        self._model, self._tell = model, tell
        self._prefixes = sorted(filter(None, prefixes), key=len, reverse=True)
        self._told = False

    def __call__(self, texts: Sequence[str]) -> Matrix:
        """A row for each text. Raises ModelError."""
        vectors = self._model.embed([writable(text) for text in texts])
        long = [number for number, vector in enumerate(vectors) if vector is None]
        if long:
            self._say_once()
            halves = [half for number in long for half in self._halves(texts[number])]
            rows = _unit(self(halves)) * np.array([[len(half)] for half in halves], dtype=np.float32)
            for place, number in enumerate(long):
                vectors[number] = rows[2 * place] + rows[2 * place + 1]
        return np.array(vectors, dtype=np.float32)

    def _halves(self, text: str) -> tuple[str, str]:
        prefix = next((prefix for prefix in self._prefixes if text.startswith(prefix)), "")
        body = text[len(prefix) :]
        if len(body) < 2:
            raise ContextOverflow(f"{self._model.info.name}: its window is too small", "use another embedding model")
        middle = len(body) // 2
        space = body.rfind(" ", middle // 2, middle)
        cut = space if space > 0 else middle
        return prefix + body[:cut], prefix + body[cut:]

    def _say_once(self) -> None:
        if not self._told:
            self._told = True
            info = self._model.info
            self._tell(f"some passages exceed the {info.context} tokens of {info.name}: they are embedded in parts")


def _unit(matrix: Matrix) -> Matrix:
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    return np.asarray(matrix / np.maximum(lengths, 1e-12), dtype=np.float32)
