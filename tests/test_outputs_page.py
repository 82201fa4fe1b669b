"""The HTML page: what Python puts into it, and what a real browser makes of it."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from harness.html_page import arxiv_link, script_json, segments
from harness.outputs import write_records

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
HEADLESS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --virtual-time-budget=4000 --dump-dom"
).split()

HOSTILE = "</script><img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script><!-- <b>"
ABSTRACT = f"𝑥 is large. We claim {HOSTILE} & more.\u2028It is \x1b[31mred."
CLAIM = [12, 12 + len(f"We claim {HOSTILE} & more.")]
MOVES = ["claim", "doubt"]

DRIVER = """
const out = [];
const say = (name, value) => out.push([name, value]);
const titles = () => [...document.querySelectorAll(".title")].map((title) => title.textContent);
const press = (selector) => document.querySelector(selector).click();
say("facts", document.getElementById("facts").textContent);
press("[data-sort=lowest] button");
say("least confident first", titles().slice(0, 2));
say("aria-sort", document.querySelector("[data-sort=lowest]").getAttribute("aria-sort"));
press("[data-sort=year] button");
say("newest first", titles()[0]);
press("#moves li:nth-child(2) button:nth-of-type(2)");
say("doubt not stated", document.getElementById("count").textContent);
say("share among these", document.querySelector("#moves li:nth-child(1) .share").textContent);
press("#reset");
say("all again", document.getElementById("count").textContent);
const show = document.getElementById("show");
show.value = "failed";
show.dispatchEvent(new Event("change"));
say("failed", document.querySelector(".problem").textContent);
show.value = "check";
show.dispatchEvent(new Event("change"));
say("worth checking", titles());
say("low cells", [...document.querySelectorAll("td.low")].map((cell) => cell.textContent));
press("#reset");
for (let times = 0; times < 3; times++) press("[data-sort=title] button");
say("input order", titles().slice(1, 3));
press("tr[data-index='0'] .title");
say("abstract", document.querySelector(".abstract").textContent);
say("marked", document.querySelector("mark").lastChild.textContent);
say("expanded", document.querySelector("tr[data-index='0'] .title").getAttribute("aria-expanded"));
press("#theme");
say("theme", document.documentElement.dataset.theme);
const search = document.getElementById("search");
search.value = "NUMBER 200.";
search.dispatchEvent(new Event("input"));
setTimeout(() => {
  say("found", titles());
  document.body.replaceChildren(Object.assign(document.createElement("pre"), { textContent: JSON.stringify(out) }));
}, 400);
"""


def paper(number: int, **changes: Any) -> dict[str, Any]:
    claim = {"text": f"Claim of number {number}.", "sentences": [1], "spans": [[0, 5]], "confidence": 0.9}
    doubt = {"text": "A doubt.", "sentences": [2, 3], "spans": [], "confidence": 0.8} if number % 2 else None
    record = {"id": f"2402.{number:05}", "title": f"Paper {number}", "status": "ok", "error": None}
    return record | {"moves": {"claim": claim, "doubt": doubt}, "model": {"name": "m:1"}} | changes


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A page of 250 papers: the first hostile, the second failed, the fourth and the sixth (of what it lacks) unsure."""
    records = [paper(number) for number in range(250)]
    hostile = {"text": ABSTRACT[slice(*CLAIM)], "sentences": [2], "spans": [CLAIM], "confidence": 0.7}
    records[0] |= {"title": HOSTILE, "abstract": ABSTRACT, "moves": {"claim": hostile, "doubt": None}}
    records[1] |= {"status": "error", "error": f"row 2: {HOSTILE}", "moves": {}}
    records[3]["moves"]["claim"]["confidence"] = 0.31
    records[6]["absent"] = {"doubt": 0.42}
    rows = [{"published": f"{1990 + number % 30}-02-18"} for number in range(250)]
    rows[7] = {"published": "2026-01-01"}
    path = tmp_path / "page.html"
    write_records(path, records, moves=MOVES, rows=rows, title=f"Papers {HOSTILE}")
    return path


def load(path: Path, profile: Path) -> str:
    """The document after its scripts ran, as a headless browser prints it."""
    assert CHROMIUM
    command = [CHROMIUM, *HEADLESS, f"--user-data-dir={profile}", path.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, encoding="utf-8").stdout


def without_data(dom: str) -> str:
    return re.sub(r"<script.*?</script>", "", dom, flags=re.DOTALL)


@needs_chromium
def test_browser_renders_rows_and_hostile_text_stays_text(page: Path, tmp_path: Path) -> None:
    dom = without_data(load(page, tmp_path / "profile"))
    assert dom.count('<tr class="paper"') >= 80
    assert html.escape(HOSTILE, quote=False) in dom
    assert "<img" not in dom
    assert "<title>owned" not in dom
    assert "Could not be annotated: row 2" in dom
    assert 'href="https://arxiv.org/abs/2402.00002"' in dom


@needs_chromium
def test_filters_sorting_search_theme_and_abstract_work_in_a_browser(page: Path, tmp_path: Path) -> None:
    policy = re.compile(r'<meta http-equiv="Content-Security-Policy".*?>')
    driven = policy.sub("", page.read_text(encoding="utf-8"))  # the policy would, rightly, keep the driver from running
    page.write_text(driven.replace("</body>", f"<script>{DRIVER}</script></body>"), encoding="utf-8")
    told = re.search(r"<pre>(.*)</pre>", load(page, tmp_path / "profile"), re.DOTALL)
    assert told
    seen = dict(json.loads(html.unescape(told[1])))
    assert seen["facts"] == "249 annotated · 1 failed · shaded: confidence below 0.60 · m:1"
    assert seen["least confident first"] == ["Paper 3", "Paper 6"]
    assert seen["aria-sort"] == "ascending"
    assert seen["newest first"] == "Paper 7"
    assert seen["doubt not stated"] == "125 of 250 papers"
    assert seen["share among these"] == "100%"
    assert seen["all again"] == "250 papers"
    assert seen["failed"] == f"Could not be annotated: row 2: {HOSTILE}"
    assert seen["worth checking"] == ["Paper 6", "Paper 3"]
    assert seen["input order"] == ["Paper 1", "Paper 2"]
    assert seen["low cells"] == ["not statedcheck 0.42", "Claim of number 3.sentence 1 · check 0.31"]
    assert seen["abstract"] == f"𝑥 is large. claimWe claim {HOSTILE} & more.\u2028It is [31mred."
    assert seen["marked"] == f"We claim {HOSTILE} & more."
    assert seen["expanded"] == "true"
    assert seen["theme"] == "light"
    assert seen["found"] == ["Paper 200"]


def test_page_is_one_file_that_loads_nothing(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    head, data = re.split(r'<script id="data"[^>]*>', text)
    assert "default-src 'none'" in head
    assert "unsafe" not in head
    assert "{{" not in head
    assert not re.search(r"\b(?:src|href)\s*=\s*[\"']?(?:https?:|//)|@import|url\(", head)
    payload = data.split("</script>")[0]
    assert "<" not in payload
    assert len(json.loads(payload)["papers"]) == 250


def test_a_page_of_no_papers(tmp_path: Path) -> None:
    write_records(tmp_path / "empty.html", [], moves=[])
    assert '"papers":[]' in (tmp_path / "empty.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("identifier", "link"),
    [
        ("2402.11651v2", "https://arxiv.org/abs/2402.11651v2"),
        ("arXiv:0704.0001", "https://arxiv.org/abs/0704.0001"),
        ("cs/0306108v1", "https://arxiv.org/abs/cs/0306108v1"),
        ("math.GT/0309136", "https://arxiv.org/abs/math.GT/0309136"),
        ("2413.11651", None),
        ("2402.11651/../../evil", None),
        ("javascript:alert(1)", None),
        ("10.1145/3292500", None),
        ("", None),
        (None, None),
    ],
)
def test_only_arxiv_ids_become_links(identifier: str | None, link: str | None) -> None:
    assert arxiv_link(identifier) == link


def test_script_json_holds_no_markup_and_round_trips() -> None:
    value = {"text": f"{HOSTILE} \u2028\u2029 é 𝑥"}
    assert not set(script_json(value)) & set("<>&\u2028\u2029")
    assert json.loads(script_json(value)) == value


def test_segments_cut_where_moves_begin_and_end_by_character() -> None:
    assert segments("𝑥abcdef", [[(1, 4)], [(3, 5)]]) == [("𝑥", []), ("ab", [0]), ("c", [0, 1]), ("d", [1]), ("ef", [])]
    assert segments("abc", [[(2, 99)], [(2, 1)]]) == [("ab", []), ("c", [0])]
    assert segments("a\x1bb", [[(2, 3)]]) == [("a", []), ("b", [0])]
