"""Train the annotator: ``finetune.train sft`` with the annotator's configuration.

python finetune/finetune_annotate.py
python finetune/finetune_annotate.py --config finetune/configs/nanda-annotator-mini.yaml --plan
python finetune/finetune_annotate.py --config finetune/configs/nanda-annotator-7b.yaml --resume auto
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

if __package__ in (None, ""):  # python finetune/finetune_annotate.py
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from finetune import train
from harness.arguments import Parser
from harness.console import stderr_console
from harness.errors import UsageError

CONFIG = Path(__file__).resolve().parent / "configs" / "nanda-annotator-7b.yaml"


def main(argv: Sequence[str] | None = None) -> int:
    """Train as configured; returns the exit code."""
    parser = Parser(prog="python finetune/finetune_annotate.py", description=__doc__)
    parser.add_argument("--config", type=Path, default=CONFIG, help=f"default: finetune/configs/{CONFIG.name}")
    train.add_options(parser)
    parser.set_defaults(verb="sft")
    try:
        args = parser.parse_args(argv)
    except UsageError as error:
        stderr_console().print(f"error: {error}", style="red")
        return int(error.exit)
    return train.guarded(args.config, args)


if __name__ == "__main__":
    raise SystemExit(main())
