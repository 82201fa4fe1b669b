"""/expand --corpus: a line of terms from the user's index beside what the model writes."""

from __future__ import annotations

import pytest
from search_helpers import put
from test_expand_skill import Daemon, Run, about_its_query, daemon, run

from harness.search.sqlite_store import SqliteStore, index_path

__all__ = ["daemon", "run"]


def index_papers(*texts: str) -> None:
    with SqliteStore(index_path()) as store:
        put(store, "/papers.csv", *texts)


TIDES = ("Tides follow the moon.", "The moon pulls tides over mudflats.", "Mudflats fall dry when tides ebb with the moon.")
BREAD = tuple(f"Bread number {n} is baked from flour and salt." for n in range(40))


def test_the_index_gives_a_line_that_is_looked_up_each_time(run: Run, daemon: Daemon) -> None:
    daemon.texts = [about_its_query]
    index_papers(*TIDES[:2], *BREAD)
    assert run("/expand tides --corpus")[:2] == (0, "hyde: tides hyde\nlex: tides lex\nlex: moon tides\nvec: tides vec\n")
    index_papers(*TIDES, *BREAD)
    assert "lex: moon tides mudflats\n" in run("/expand tides --corpus")[1]
    assert "moon" not in run("/expand tides")[1]
    assert len(daemon.asked) == 1  # what the model wrote is journaled, the line of the index is not
    assert "lex: moon tides mudflats -sun\n" in run("/expand tides -sun --corpus")[1]


def test_the_index_has_nothing_to_say_of_other_types_and_unknown_words(run: Run, daemon: Daemon) -> None:
    daemon.texts = [about_its_query]
    index_papers(*TIDES, *BREAD)
    assert run("/expand tides /only:vec --corpus")[1] == "vec: tides vec\n"
    assert run("/expand zebras --corpus")[1].count("lex: ") == 1


@pytest.mark.parametrize("there", [True, False])
def test_an_empty_index_is_one_line(run: Run, daemon: Daemon, there: bool) -> None:
    if there:
        index_papers()
    status, out, err = run("/expand tides --corpus")
    assert (status, out) == (1, "")
    assert '--corpus: nothing is indexed yet; index your papers first, for example "/index papers/"' in err
    assert not daemon.asked
