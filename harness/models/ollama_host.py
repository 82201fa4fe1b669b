"""Where the daemon is: OLLAMA_HOST read as Ollama itself reads it, for a client."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from harness.errors import UsageError

DEFAULT_PORT = 11434
_SCHEME_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[\w.-]*")
_BRACKETED = re.compile(r"\[([^\]]*)\](?::(.*))?")


def parse_host(text: str) -> str:
    """The base URL that a client connects to, for any value of OLLAMA_HOST.

    A bare host or address listens on 11434; with a scheme, the scheme's own port is meant. An address that only a
    server can use (0.0.0.0, ::) becomes the loopback of its family. Unlike the daemon, which warns and takes its
    default, a port that is none raises UsageError: a client must not talk to another daemon than the one named.

    >>> parse_host("0.0.0.0:56789"), parse_host("http://1.2.3.4"), parse_host("[::1]")
    ('http://127.0.0.1:56789', 'http://1.2.3.4:80', 'http://[::1]:11434')
    """
    value = text.strip().strip("\"'").strip()
    if value == "ollama.com":
        value = "https://ollama.com"
    scheme, separator, rest = value.partition("://")
    if not separator:
        scheme, rest, port = "http", value, DEFAULT_PORT
    elif (scheme := scheme.lower()) in _SCHEME_PORTS:
        port = _SCHEME_PORTS[scheme]
    else:
        raise _wrong(text, f"{scheme}:// is neither http:// nor https://")
    authority, _, path = rest.partition("/")
    host, port_text = _split(authority)
    if port_text:
        port = _port(text, port_text)
    path = path.strip("/")
    return f"{scheme}://{_connectable(text, host)}:{port}" + (f"/{path}" if path else "")


def is_loopback(url: str) -> bool:
    """Whether a base URL stays on this machine.

    >>> [is_loopback(parse_host(text)) for text in ("", "localhost", "[::]", "127.1.2.3:80")]
    [True, True, True, True]
    >>> [is_loopback(parse_host(text)) for text in ("example.com", "10.0.0.5", "127.0.0.1.example.com")]
    [False, False, False]
    """
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _split(authority: str) -> tuple[str, str]:
    """Host without brackets, and the port's text or nothing."""
    if bracketed := _BRACKETED.fullmatch(authority):
        return bracketed[1], bracketed[2] or ""
    if authority.count(":") > 1:  # an IPv6 address without brackets cannot carry a port
        return authority, ""
    host, _, port = authority.partition(":")
    return host, port


def _port(text: str, port: str) -> int:
    if port.isascii() and port.isdigit() and 0 < int(port) < 65536:
        return int(port)
    raise _wrong(text, f"{port!r} is not a port (1 to 65535)")


def _connectable(text: str, host: str) -> str:
    """The host as it stands in a URL: loopback for nothing and for addresses that only a server can bind."""
    try:
        address = ipaddress.ip_address(host or "127.0.0.1")
    except ValueError:
        if _HOST.fullmatch(host):
            return host
        raise _wrong(text, f"{host!r} is not a host name") from None
    if address.version == 6:
        if address.scope_id:
            raise _wrong(text, "an address with a zone is not supported")
        return "[::1]" if address.is_unspecified else f"[{address}]"
    return "127.0.0.1" if address.is_unspecified else str(address)


def _wrong(text: str, why: str) -> UsageError:
    return UsageError(f"Ollama host {text!r}: {why}", "set OLLAMA_HOST to HOST:PORT or a URL")
