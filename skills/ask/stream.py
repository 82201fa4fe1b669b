"""The readable text of an answer while its JSON still arrives."""

from __future__ import annotations

from collections.abc import Callable

BETWEEN = "\n#####\n"
"""Between reasoning and answer, as in the finished text."""

Path = tuple[str, ...]
"""Where in the JSON: names of keys, ``[]`` for any place in a list."""
_REASONING: Path = ("reasoning",)
_SENTENCE: Path = ("answer", "[]")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


class AnswerStream:
    """Give it the pieces of an ``ask@1`` answer; it gives ``show`` the reasoning, the sentences and their marks.

    JSON that is no such answer shows nothing.
    """

    def __init__(self, show: Callable[[str], object]) -> None:
        self._show = show
        self._reader = _Reader(self)
        self._marks: list[str] = []
        self._shown = False
        self._sentences = 0

    def feed(self, piece: str) -> None:
        """Take the next piece of JSON."""
        self._reader.feed(piece)

    def begin(self, path: Path) -> None:
        """A string begins."""
        if path == (*_SENTENCE, "text"):
            if self._sentences:
                self._show(" ")
            elif self._shown:
                self._show(BETWEEN)
            self._sentences += 1

    def text(self, path: Path, character: str) -> None:
        """A string goes on."""
        if path in (_REASONING, (*_SENTENCE, "text")):
            self._shown = True
            self._show(character if character.isprintable() else " ")

    def literal(self, path: Path, value: str) -> None:
        """A number, or a word such as ``true``."""
        if path == (*_SENTENCE, "citations", "[]", "n") and value.isdecimal():
            self._marks.append(value)

    def end(self, path: Path) -> None:
        """An object ends."""
        if path == _SENTENCE and self._marks:
            self._show(" " + "".join(f"[{mark}]" for mark in dict.fromkeys(self._marks)))
            self._marks = []


class _Reader:
    """JSON, one character at a time, never going back; it tells an ``AnswerStream`` what it meets."""

    def __init__(self, told: AnswerStream) -> None:
        self._told = told
        self._path: list[str] = []
        """The key in force in each container that is open, ``[]`` in a list."""
        self._key_next = False
        self._key: str | None = None
        """The key that is being read."""
        self._in_string = False
        self._escape = ""
        self._half = ""
        """The first half of a character that is escaped as two."""
        self._literal = ""

    def feed(self, piece: str) -> None:
        for character in piece:
            if self._in_string:
                self._inside(character)
            else:
                self._outside(character)

    def _outside(self, character: str) -> None:
        if character in '{}[]:,"' or character.isspace():
            if self._literal:
                self._told.literal(tuple(self._path), self._literal)
                self._literal = ""
        else:
            self._literal += character
        if character == '"':
            self._in_string = True
            if self._key_next:
                self._key = ""
            else:
                self._told.begin(tuple(self._path))
        elif character in "{[":
            self._path.append("[]" if character == "[" else "")
            self._key_next = character == "{"
        elif character in "}]" and self._path:
            self._path.pop()
            self._key_next = False
            if character == "}":
                self._told.end(tuple(self._path))
        elif character == ",":
            self._key_next = bool(self._path) and self._path[-1] != "[]"

    def _inside(self, character: str) -> None:
        if self._escape:
            self._escape += character
            if self._escape[1] != "u":
                self._emit(_ESCAPES.get(character, character))
            elif len(self._escape) == 6:
                self._unicode(self._escape[2:])
            else:
                return
            self._escape = ""
        elif character == "\\":
            self._escape = character
        elif character == '"':
            self._in_string = False
            if self._key is not None:
                self._path[-1], self._key, self._key_next = self._key, None, False
        else:
            self._emit(character)

    def _unicode(self, digits: str) -> None:
        try:
            character = chr(int(digits, 16))
        except ValueError:
            character = "\ufffd"
        if "\ud800" <= character <= "\udbff":
            self._half = character
            return
        if self._half:
            character = (self._half + character).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            self._half = ""
        self._emit(character)

    def _emit(self, character: str) -> None:
        if self._key is not None:
            self._key += character
        else:
            self._told.text(tuple(self._path), character)
