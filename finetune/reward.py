"""QMD's reward under the name that the QMD project gives it; see ``finetune/rewards/qmd.py``.

    python finetune/reward.py

runs the self-test.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # run as a file, Python looks for modules beside it, not in the checkout
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from finetune.rewards.qmd import (
    QMDRewardFunction,
    clean_model_output,
    detect_only_mode,
    echoes_query,
    extract_named_entities,
    extract_query_from_prompt,
    is_diverse,
    lex_is_generic,
    main,
    parse_expansion,
    score_expansion,
    score_expansion_detailed,
    word_repetition_penalty,
)

__all__ = [
    "QMDRewardFunction",
    "clean_model_output",
    "detect_only_mode",
    "echoes_query",
    "extract_named_entities",
    "extract_query_from_prompt",
    "is_diverse",
    "lex_is_generic",
    "parse_expansion",
    "score_expansion",
    "score_expansion_detailed",
    "word_repetition_penalty",
]

if __name__ == "__main__":
    raise SystemExit(main())
