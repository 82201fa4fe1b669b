"""What every Marginalia skill stands on: models, jobs, readers, outputs, registry, command line."""

__version__ = "0.1.0"
