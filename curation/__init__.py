"""The back room of ``curator.py``: checks, personas, votes, verdicts, and what is shown of them."""
