"""Fixtures that several test files share because they are dear."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from finetune_smoke import Road


@pytest.fixture(scope="session")
def road(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """One run of the whole training road (15 s); read it, do not write into it."""
    torch: Any = pytest.importorskip("torch", reason="needs the finetune extra")
    for package in ("transformers", "sklearn"):
        pytest.importorskip(package, reason="needs the finetune extra")
    from finetune_smoke import build

    threads = torch.get_num_threads()
    yield build(tmp_path_factory.mktemp("road"))
    torch.set_num_threads(threads)
