"""Which store holds the user's index: the built-in one, or Qdrant where the setting ``store`` names it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from harness.errors import Offline, UsageError

if TYPE_CHECKING:
    from harness.config import Settings
    from harness.search.store import Store

QDRANT = "qdrant:"
"""How the setting begins that names a Qdrant server's address, or a folder for the client's own imitation of one."""
KEY = "QDRANT_API_KEY"
"""The environment variable that a server's key is read from: a key has no place in a settings file."""


def open_store(settings: Settings) -> Store:
    """The store that the settings name; close it.

    Raises UsageError for a setting that names none, Offline for another machine's where the network is not to be used,
    InputError where it cannot be opened.
    """
    if not settings.store:
        from harness.search.sqlite_store import SqliteStore, index_path

        return SqliteStore(index_path())
    place = settings.store.removeprefix(QDRANT).strip()
    if not settings.store.startswith(QDRANT) or not place:
        remedy = "give qdrant:http://HOST:6333, qdrant:FOLDER, or leave it out"
        raise UsageError(f"store = {settings.store!r} names no store", remedy)
    remote = place.startswith(("http://", "https://"))
    if remote and settings.offline:
        from harness.models.ollama_host import is_loopback

        if not is_loopback(place):
            raise Offline(f"Qdrant at {place} is another machine and --offline is in force", "leave out --offline")
    from harness.search.qdrant_store import QdrantStore

    folder = os.path.abspath(os.path.expanduser(place))
    return QdrantStore(place if remote else folder, api_key=os.environ.get(KEY) if remote else None)
