"""Fixtures that several test files share: the dear ones, and a loopback Ollama with one model."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from ollama_server import OllamaServer

from harness.models.ollama import OllamaDaemon, OllamaModel

if TYPE_CHECKING:
    from finetune_smoke import Road

# A job in the background of a shell inherits an ignored SIGINT, and so would every program that the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


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


@pytest.fixture
def server() -> Iterator[OllamaServer]:
    """A loopback server with Ollama's routes and the model ``tiny``."""
    with OllamaServer() as running:
        running.add("tiny", context=4096)
        yield running


@pytest.fixture
def daemon(server: OllamaServer) -> Iterator[OllamaDaemon]:
    """The client's end of ``server``."""
    daemon = OllamaDaemon(server.url, timeout=20, keep_alive="10m")
    yield daemon
    daemon.close()


@pytest.fixture
def model(daemon: OllamaDaemon) -> OllamaModel:
    """``tiny`` of ``daemon``, opened."""
    return OllamaModel(daemon, "tiny")
