"""Where the daemon is: what the doctests of ``parse_host``, its specification, leave out."""

from __future__ import annotations

import pytest

from harness.errors import Exit, UsageError
from harness.models import ollama_host


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
