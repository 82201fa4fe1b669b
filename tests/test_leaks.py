"""Papers of an evaluation set are found in training data whatever they are called there; others are left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetune.dataset.abstracts import read_jsonl
from finetune.dataset.leaks import LeakCheck, ngrams, paper_key, words

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

ABSTRACT = (
    "Agents that keep every past observation slow down as their memory grows. We introduce a memory in which every entry "
    "carries an expiry that is renewed only when the entry helps a later decision."
)
OTHER = (
    "We consider online colouring of graphs of bounded degree. We prove that any deterministic algorithm needs a number of "
    "changes that grows with the degree, even on forests."
)
EVALUATION = [{"arxiv_id": "2402.11651v2", "title": "Room to Forget: Memories", "abstract": ABSTRACT}]


@pytest.mark.parametrize(
    "identifier",
    ["2402.11651", "2402.11651v1", " 2402.11651V3 ", "arXiv:2402.11651", "https://arxiv.org/abs/2402.11651v1"],
)
def test_all_spellings_of_an_identifier_are_one_paper(identifier: str) -> None:
    assert paper_key(identifier) == "2402.11651"
    assert LeakCheck(EVALUATION).reason({"id": identifier, "title": "x", "abstract": OTHER}) == "id"


def test_old_identifiers_and_other_names_keep_their_letters() -> None:
    assert paper_key("http://arxiv.org/pdf/cs/0301001v2.pdf") == "cs/0301001"
    assert paper_key("sample-05") == "sample-05"


def test_same_title_leaks_in_any_case_and_punctuation() -> None:
    row = {"id": "9", "title": "ROOM to forget -- memories", "abstract": OTHER}
    assert LeakCheck(EVALUATION).reason(row) == "title"


def test_copied_text_leaks_through_line_breaks_markup_and_a_changed_half() -> None:
    check = LeakCheck(EVALUATION)
    assert check.reason({"abstract": ABSTRACT.upper().replace(" ", "\n  ").replace(".", " \\\\")}) == "text"
    kept = " ".join(ABSTRACT.split()[:24])
    assert check.reason({"abstract": f"{kept} and nothing else is the same"}) == "text"
    few = " ".join(ABSTRACT.split()[:10])
    assert check.reason({"abstract": f"{few}. {OTHER}"}) is None


def test_an_evaluation_abstract_inside_a_longer_text_leaks_and_a_set_phrase_does_not() -> None:
    longer = f"{OTHER} {ABSTRACT} {OTHER.replace('graphs', 'maps')} {OTHER.replace('degree', 'width')}"
    assert LeakCheck(EVALUATION).reason({"abstract": longer}) == "text"
    phrase = "The code and data are available at the address below."
    assert LeakCheck([{"abstract": phrase}]).reason({"abstract": f"{ABSTRACT} {phrase}"}) is None


def test_a_row_that_lacks_everything_does_not_leak_even_where_the_evaluation_set_lacks_it_too() -> None:
    bare = [{"abstract": ""}, {"title": None, "id": None, "abstract": None}]
    assert LeakCheck(bare).reason({"abstract": "", "title": "", "id": ""}) is None
    assert LeakCheck(EVALUATION).reason({}) is None
    assert LeakCheck([]).reason(EVALUATION[0]) is None


def test_short_texts_are_one_gram() -> None:
    assert words("It's $x_1$, HERE!") == ["it", "s", "x", "1", "here"]
    assert ngrams("three short words") == {("three", "short", "words")}
    assert ngrams("") == set()
    assert len(ngrams("a b c d e f g h i j")) == 3
    assert LeakCheck([{"abstract": "Three short words"}]).reason({"abstract": "three, short words."}) == "text"


def test_the_training_gold_holds_no_paper_of_the_evaluation_set() -> None:
    if not DATA.exists():
        pytest.skip("the project's data is not beside the checkout")
    check = LeakCheck(read_jsonl(DATA / "gold" / "moves_dev.jsonl"))
    leaks = [row["arxiv_id"] for row in read_jsonl(DATA / "gold" / "moves_train.jsonl") if check.reason(row)]
    assert not leaks
