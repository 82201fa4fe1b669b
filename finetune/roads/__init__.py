"""Roads: the steps that make a model, each a process of its own, skipped while nothing that it depends on has changed."""
