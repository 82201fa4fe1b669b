"""arXiv: ids, and the export API against a loopback server that answers Atom."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from harness.errors import InputError, Offline
from harness.readers import arxiv, open_papers

ENTRY = """<entry><id>http://arxiv.org/abs/{id}</id><published>2024-02-18T17:10:07Z</published>
<title>A  Title
  of {id}</title><summary>  First sentence &amp; more.
Second sentence.
</summary><author><name>A. Ünal</name></author><author><name>B. Other</name></author>
<arxiv:doi>10.1/x</arxiv:doi><category term="cs.CL"/><category term="cs.AI"/></entry>"""


def feed(*entries: str) -> str:
    head = '<?xml version="1.0" encoding="UTF-8"?><feed xmlns="http://www.w3.org/2005/Atom"'
    return f'{head} xmlns:arxiv="http://arxiv.org/schemas/atom">{"".join(entries)}</feed>'


def entries(*ids: str) -> str:
    return feed(*(ENTRY.format(id=identity) for identity in ids))


@dataclass
class Server:
    """What to answer next (status, body; the last one again and again) and what was asked."""

    answers: list[tuple[int, str]] = field(default_factory=list)
    queries: list[dict[str, list[str]]] = field(default_factory=list)
    agents: list[str] = field(default_factory=list)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.queries.append(parse_qs(urlsplit(self.path).query))
            state.agents.append(self.headers["User-Agent"])
            status, body = state.answers.pop(0) if len(state.answers) > 1 else state.answers[0]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setattr(arxiv, "API", f"http://127.0.0.1:{httpd.server_port}/api/query")
    monkeypatch.setattr(arxiv, "PAUSE", 0.0)
    monkeypatch.setenv("no_proxy", "*")
    yield state
    httpd.shutdown()
    thread.join()
    httpd.server_close()


@pytest.mark.parametrize(
    ("text", "identity"),
    [
        ("2402.11651", "2402.11651"),
        (" 0704.0001v3 ", "0704.0001v3"),
        ("arXiv: 2402.11651v12", "2402.11651v12"),
        ("cs/0306108v1", "cs/0306108v1"),
        ("hep-th/9901001", "hep-th/9901001"),
        ("math.GT/0309136", "math.GT/0309136"),
        ("http://www.arxiv.org/abs/cs/0306108", "cs/0306108"),
        ("arxiv.org/html/2402.11651v2", "2402.11651v2"),
        ("https://arxiv.org/abs/2402.11651?context=cs", "2402.11651"),
        ("https://doi.org/10.48550/arXiv.2402.11651", "2402.11651"),
        ("2402.11651v0", None),
        ("2402.116", None),
        ("papers/1234567", None),
        ("https://example.org/abs/2402.11651", None),
        ("a paper 2402.11651", None),
        ("cs/0306108/../../etc", None),
    ],
)
def test_parse_id(text: str, identity: str | None) -> None:
    assert arxiv.parse_id(text) == identity


def test_papers_by_id_come_in_the_order_asked(server: Server) -> None:
    server.answers = [(200, entries("math/0309136v1", "2402.11651v2"))]
    source = open_papers("2402.11651, math.GT/0309136 2401.99999")
    papers = list(source.papers)
    assert (source.kind, source.total, source.name) == ("arxiv", 3, "arXiv")
    assert server.queries[0]["id_list"] == ["2402.11651,math.GT/0309136,2401.99999"]
    assert [paper.id for paper in papers] == ["2402.11651v2", "math/0309136v1", "2401.99999"]
    assert papers[0].abstract == "First sentence & more.\nSecond sentence."
    assert papers[0].title == "A Title of 2402.11651v2"
    assert papers[0].row["authors"] == "A. Ünal, B. Other"
    assert papers[0].row["categories"] == "cs.CL, cs.AI"
    assert papers[2].error == "arXiv has no paper 2401.99999"
    assert server.agents[0].startswith("marginalia/")


def test_one_unknown_id_is_an_error(server: Server) -> None:
    server.answers = [(200, feed())]
    with pytest.raises(InputError, match=r"arXiv has no paper 2401\.99999"):
        open_papers("https://arxiv.org/abs/2401.99999")


def test_search_pages_until_it_has_enough(server: Server) -> None:
    first = [f"2402.{n:05d}v1" for n in range(100)]
    server.answers = [(200, entries(*first)), (200, entries("2403.00001v1"))]
    source = open_papers("Survey of RAG techniques for agents", limit=120)
    assert (source.kind, source.total) == ("topic", 101)
    assert [query["search_query"] for query in server.queries] == [["all:rag AND all:agent"]] * 2
    assert [query["start"] for query in server.queries] == [["0"], ["100"]]
    assert [query["max_results"] for query in server.queries] == [["100"], ["20"]]
    assert "asking arXiv (127.0.0.1" in source.notes[0]
    assert "up to 120 papers on: rag agent (--offline forbids it)" in source.notes[0]


def test_a_topic_that_the_files_do_not_have_is_searched_for(server: Server, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("id,abstract\n1,about whales\n")
    server.answers = [(200, entries("2402.11651v2"))]
    source = open_papers("zebras", corpus=[tmp_path / "p.csv"])
    assert [(paper.id, paper.source) for paper in source.papers] == [("2402.11651v2", "arXiv")]
    assert any("no paper on 'zebras'" in note for note in source.notes)


def test_what_is_asked_where_is_told_before_it_is_asked(server: Server, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("id,abstract\n1,about whales\n")
    server.answers = [(200, entries("2402.11651v2")), (200, entries("2402.11651v2"))]
    told: list[tuple[str, int]] = []
    source = open_papers("zebras", corpus=[tmp_path / "p.csv"], tell=lambda line: told.append((line, len(server.queries))))
    assert [asked for _, asked in told] == [0, 0], "nothing may be asked before it is told"
    assert "p.csv: no paper on 'zebras'" in told[0][0]
    assert "asking arXiv (127.0.0.1" in told[1][0]
    assert told[1][0].endswith("papers on: zebra (--offline forbids it)")
    assert not any("asking" in note for note in source.notes)
    open_papers("2402.11651", tell=lambda line: told.append((line, len(server.queries))))
    assert told[2][0].endswith(" for 2402.11651")
    assert told[2][1] == 1


def test_nothing_found(server: Server) -> None:
    server.answers = [(200, feed())]
    with pytest.raises(InputError, match="arXiv has no paper on 'zebras'"):
        open_papers("zebras")


@pytest.mark.parametrize("source", ["2402.11651", "zebras in space"])
def test_offline_asks_nobody(server: Server, source: str) -> None:
    with pytest.raises(Offline):
        open_papers(source, offline=True)
    assert server.queries == []


def test_a_busy_server_is_asked_again(server: Server) -> None:
    server.answers = [(503, "busy"), (429, "slow down"), (200, entries("2402.11651v2"))]
    assert open_papers("2402.11651").total == 1
    assert len(server.queries) == 3


@pytest.mark.parametrize(("status", "calls"), [(400, 1), (404, 1), (500, 3)])
def test_a_server_that_refuses_is_one_line(server: Server, status: int, calls: int) -> None:
    server.answers = [(status, "<html>\nno\n</html>")]
    with pytest.raises(InputError, match=f"could not be reached \\(HTTP {status}\\)"):
        open_papers("2402.11651")
    assert len(server.queries) == calls


def test_no_server(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arxiv, "API", "http://127.0.0.1:9/api/query")
    with pytest.raises(InputError, match="could not be reached"):
        open_papers("2402.11651")


BOMB = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><feed>&b;</feed>'


@pytest.mark.parametrize("body", [BOMB, "<feed", "not xml at all", ""])
def test_answers_that_are_no_feed(server: Server, body: str) -> None:
    server.answers = [(200, body)]
    with pytest.raises(InputError, match="not an Atom feed"):
        open_papers("2402.11651")


def test_an_error_entry_is_told(server: Server) -> None:
    error = (
        "<entry><id>http://arxiv.org/api/errors#x</id><title>Error</title><summary>incorrect id format</summary></entry>"
    )
    server.answers = [(200, feed(error))]
    with pytest.raises(InputError, match="refused the request: incorrect id format"):
        open_papers("2402.11651")


def test_calls_keep_their_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    now, slept = [100.0], list[float]()

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(arxiv, "_LAST_CALL", [float("-inf")])
    monkeypatch.setattr(arxiv.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(arxiv.time, "sleep", sleep)
    client = arxiv.Client()
    client._wait(3.0)
    now[0] += 1
    client._wait(3.0)
    assert slept == [2.0]
    assert arxiv.PAUSE >= 3
