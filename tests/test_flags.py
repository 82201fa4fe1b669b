"""Flags that several skills have mean the same in each."""

from __future__ import annotations

import pytest

from harness.errors import UsageError
from harness.flags import column_of, columns_of, rerank_seconds
from harness.task import Flag
from skills.annotate.options import FLAGS as ANNOTATE
from skills.ask.options import FLAGS as ASK
from skills.expand.options import FLAGS as EXPAND
from skills.index.options import FLAGS as INDEX


def named(flags: tuple[Flag, ...], name: str) -> Flag:
    return next(flag for flag in flags if flag.name == name)


def test_rerank_is_a_number_of_seconds_everywhere() -> None:
    ask, index = named(ASK, "rerank"), named(INDEX, "rerank")
    assert ask.metavar == index.metavar == "SECONDS"
    assert index.help.endswith(ask.help)
    assert rerank_seconds("2.5") == 2.5
    for wrong in ("0", "-1", "601", "nan", "ten", ""):
        with pytest.raises(UsageError, match="number of seconds"):
            rerank_seconds(wrong)


def test_column_says_which_field_is_where_everywhere() -> None:
    assert named(ANNOTATE, "column") == named(INDEX, "column")
    metavars = [named(flags, "column").metavar for flags in (ANNOTATE, ASK, EXPAND)]
    assert metavars == ["FIELD=NAME", "question=NAME", "query=NAME"]
    assert columns_of(["abstract=a=b", "title=t"]) == (("abstract", "a=b"), ("title", "t"))
    with pytest.raises(UsageError, match="FIELD=NAME"):
        columns_of(["body"])


@pytest.mark.parametrize(
    ("text", "name"), [("query=Topic text", "Topic text"), ("Query=q", "q"), ("topic", "topic"), ("a=b", "a=b")]
)
def test_the_bare_name_of_before_still_works(text: str, name: str) -> None:
    assert column_of(text, "query") == name


def test_a_field_without_a_column_is_wrong() -> None:
    with pytest.raises(UsageError, match="names no column"):
        column_of("query=", "query")
