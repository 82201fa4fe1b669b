"""How sure to be of a cell: from the model's probability to the share of such cells that held-out gold confirms.

Platt scaling (Platt 1999) with one slope and an intercept a move, fitted on held-out gold by ``finetune.mark_release``; one
curve for stated moves (is the first quote right?) and one for moves not stated (is it really not there?).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_EDGE = 1e-6


def logit(probability: float) -> float:
    """Log-odds, with 0 and 1 kept finite."""
    p = min(max(probability, _EDGE), 1 - _EDGE)
    return math.log(p / (1 - p))


@dataclass(frozen=True)
class Curve:
    """``sigmoid(slope * logit(p) + intercept[move])``."""

    slope: float
    intercept: Mapping[str, float]

    def confidence(self, move: str, probability: float) -> float:
        """Calibrated probability, 0 to 1, in three decimals."""
        score = self.slope * logit(probability) + self.intercept.get(move, 0.0)
        return round(1 / (1 + math.exp(-score)), 3)


@dataclass(frozen=True)
class Calibration:
    """What a registry entry's ``serving`` table holds for contract mark@1."""

    thresholds: Mapping[str, float]
    floors: Mapping[str, float]
    stated: Curve
    absent: Curve

    @classmethod
    def load(cls, serving: Mapping[str, Any]) -> Calibration:
        """From the ``serving`` table; what it lacks is taken as one half and uncalibrated."""

        def curve(name: str, slope: float) -> Curve:
            table = serving.get(name) or {}
            intercept = {str(k): float(v) for k, v in table.items() if k != "slope"}
            return Curve(float(table.get("slope", slope)), intercept)

        def numbers(name: str) -> dict[str, float]:
            return {str(k): float(v) for k, v in (serving.get(name) or {}).items()}

        return cls(numbers("thresholds"), numbers("floors"), curve("stated", 1.0), curve("absent", -1.0))

    def threshold(self, move: str) -> float:
        """The least probability at which a sentence counts as stating the move."""
        return self.thresholds.get(move, 0.5)

    def floor(self, move: str) -> float:
        """The least probability at which the best sentence counts where none reaches the threshold."""
        return self.floors.get(move, self.threshold(move))
