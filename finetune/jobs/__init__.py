"""Scripts for machines in the cloud: each is one file, which ``build.py`` makes out of ``source/`` and the checkout."""
