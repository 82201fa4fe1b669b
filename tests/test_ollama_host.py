"""Where the daemon is: every way to write OLLAMA_HOST that Ollama itself takes, and what is refused."""

from __future__ import annotations

import pytest

from harness.errors import Exit, UsageError
from harness.models import ollama_host


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("", "http://127.0.0.1:11434"),
        ("1.2.3.4", "http://1.2.3.4:11434"),
        ("1.2.3.4:56789", "http://1.2.3.4:56789"),
        (":56789", "http://127.0.0.1:56789"),
        ("example.com", "http://example.com:11434"),
        ("example.com:56789", "http://example.com:56789"),
        ("example.com:", "http://example.com:11434"),
        ("  'example.com' ", "http://example.com:11434"),
        ('" 1.2.3.4 "', "http://1.2.3.4:11434"),
        ("http://1.2.3.4", "http://1.2.3.4:80"),
        ("HTTPS://1.2.3.4", "https://1.2.3.4:443"),
        ("https://1.2.3.4:56789", "https://1.2.3.4:56789"),
        ("http://", "http://127.0.0.1:80"),
        ("ollama.com", "https://ollama.com:443"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:56789", "http://127.0.0.1:56789"),
        ("https://0.0.0.0:56789", "https://127.0.0.1:56789"),
        ("::", "http://[::1]:11434"),
        ("[::]:56789", "http://[::1]:56789"),
        ("::1", "http://[::1]:11434"),
        ("[::1]", "http://[::1]:11434"),
        ("[::1]:56789", "http://[::1]:56789"),
        ("http://[0001:002:003:0004::1]", "http://[1:2:3:4::1]:80"),
        ("https://[::1]:56789/path/", "https://[::1]:56789/path"),
        ("example.com/", "http://example.com:11434"),
        ("example.com/path", "http://example.com:11434/path"),
        ("https://example.com/team/ollama/", "https://example.com:443/team/ollama"),
    ],
)
def test_a_host_is_read_as_ollama_reads_it(host: str, url: str) -> None:
    assert ollama_host.parse_host(host) == url


@pytest.mark.parametrize(
    "host",
    [":0", ":66000", "localhost:-1", "localhost:http", "localhost:١", "http://example.com:1x", "[::1]:70000"],
)
def test_a_bad_port_is_wrong_usage(host):
    with pytest.raises(UsageError, match="is not a port") as raised:
        ollama_host.parse_host(host)
    assert raised.value.exit is Exit.USAGE
    assert "OLLAMA_HOST" in raised.value.remedy


@pytest.mark.parametrize("host", ["ftp://example.com", "my host", "user@example.com", "fe80::1%eth0", "1:2:3", "[::1"])
def test_what_is_no_host_is_wrong_usage(host):
    with pytest.raises(UsageError, match="Ollama host"):
        ollama_host.parse_host(host)
