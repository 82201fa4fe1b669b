"""Where the daemon is: the doctests of ``parse_host`` are its specification."""

from __future__ import annotations

import doctest

import pytest

from harness.errors import Exit, UsageError
from harness.models import ollama_daemon, ollama_host


@pytest.mark.parametrize("module", [ollama_host, ollama_daemon])
def test_doctests_hold(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


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
