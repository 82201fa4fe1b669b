"""Supervised fine-tuning of an adapter (QLoRA) with loss on the completion only. ``run.py`` puts the parts together.

``config`` every value of a run · ``base`` the base model on disk · ``data`` rows to examples · ``batches`` their order ·
``model`` weights, adapter, label rows · ``trainer`` the loop · ``watch`` who follows it · ``checkpoints`` resume ·
``attention`` on a CPU ·
``memory`` and ``plan`` what a run will cost · ``preflight`` what stops it early · ``report`` metrics and curves.
"""
