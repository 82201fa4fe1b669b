"""Scores of models on the user's own labels: what ``finetune/eval.py``, the registry's gate and the benchmarks share."""
