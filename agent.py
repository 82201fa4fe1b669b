"""The front door: ``python agent.py "/annotate papers.csv save to out.csv"``, or no task for a conversation."""

from __future__ import annotations

from harness.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
