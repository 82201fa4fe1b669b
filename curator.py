"""The curator: five personas vote on every annotation, and the rows that enough of them pass are kept.

    python curator.py annotated.csv --out annotated_curated.csv --log curation_log.jsonl [--quorum 3] [--model NAME]

As a library: ``read_rows`` a file, ``curate`` its rows by ``Rules``, ``write_rows`` those that were kept. What stands
behind it is in ``curation/``.
"""

from __future__ import annotations

from curation.cli import main
from curation.log import read_log, write_log
from curation.panel import Curated, Rules, curate
from curation.personas import load_panel
from curation.rows import Row, Source, read_rows, write_rows

__all__ = [
    "Curated",
    "Row",
    "Rules",
    "Source",
    "curate",
    "load_panel",
    "main",
    "read_log",
    "read_rows",
    "write_log",
    "write_rows",
]

if __name__ == "__main__":
    raise SystemExit(main())
