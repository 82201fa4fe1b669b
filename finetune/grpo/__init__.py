"""Group relative policy optimisation (GRPO) of a model of /expand: see ``trainer.py``."""
