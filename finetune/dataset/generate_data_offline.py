"""``generate_offline.py`` under the name that the QMD project gives it."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # run as a file, Python looks for modules beside it, not in the checkout
    sys.path[0] = str(Path(__file__).resolve().parent.parent.parent)

from finetune.dataset.generate_offline import main

__all__ = ["main"]

if __name__ == "__main__":
    raise SystemExit(main())
