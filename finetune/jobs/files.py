"""Text files of the checkout for the sources of cloud scripts. A script that build.py made carries another module."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def text_of(path: str) -> str:
    """The text of a file of the checkout, by its path from the root."""
    return (ROOT / path).read_text(encoding="utf-8")
