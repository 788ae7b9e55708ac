r"""Where in a TOML file a table or a key stands, so that an error can name the line.

`tomllib` says what a file holds and not where. This reads the same text again, once it is known to be
valid, and notes the line of each key (grammar: https://toml.io/en/v1.0.0).

>>> places = lines_of('[[prices]]\nmodel = "a"\n\n[[prices]]\nmodel = "b"')
>>> places["prices", 1, "model"]
5
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from ..errors import MeteringError, PriceError

__all__ = ["Place", "TomlFile", "lines_of", "parse_toml", "read_toml"]

Place = tuple[str | int, ...]
"""A way down from the file: names of keys, and positions in arrays."""

_SPACE: Final = re.compile(r"[ \t]*")
_GAP: Final = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_KEY: Final = re.compile(r"""[ \t]*(?:([A-Za-z0-9_-]+)|("(?:[^"\\\n]|\\.)*")|'([^'\n]*)')[ \t]*""")
# Up to two quotation marks may stand right before the three that end a string.
_STRING: Final = re.compile(
    r'''"""(?:[^\\]|\\.)*?"{3,5}(?!")|\'\'\'.*?\'{3,5}(?!')|"(?:[^"\\\n]|\\.)*"|'[^'\n]*\'''',
    re.DOTALL,
)
_BARE: Final = re.compile(r"[^,\]}#\r\n]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class TomlFile:
    """A TOML file that was read.

    Attributes:
        name: What errors call it: its path.
        data: What it holds; numbers with a fraction are `Decimal`, by the digits that are written.
        lines: The line, from 1, of each table and key.
        digest: Of its text: two files with the same one say the same.
    """

    name: str
    data: Mapping[str, Any]
    lines: Mapping[Place, int]
    digest: str

    def where(self, *place: str | int) -> str:
        """`file:line` of a table or key; where it is missing, that of what it is missing in."""
        while place and place not in self.lines:
            place = place[:-1]
        return f"{self.name}:{self.lines.get(place, 1)}"


def read_toml(
    path: str | Path, *, raising: Callable[[str], MeteringError] = PriceError
) -> TomlFile:
    """Read a file.

    Args:
        path: The file, in UTF-8.
        raising: Makes the error, of what is wrong.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise raising(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise raising(f"{path}:{line}: not UTF-8") from error
    return parse_toml(text, str(path), raising=raising)


def parse_toml(
    text: str, name: str, *, raising: Callable[[str], MeteringError] = PriceError
) -> TomlFile:
    """Read the text of a file that has been opened already."""
    try:
        data = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        what, _, where = str(error).rpartition(" (at ")
        line = re.match(r"line (\d+)", where)
        at = line[1] if line else text.count("\n") + 1
        raise raising(f"{name}:{at}: {what or error}") from error
    digest = hashlib.sha256(text.encode()).hexdigest()
    return TomlFile(name=name, data=data, lines=lines_of(text), digest=digest)


def lines_of(text: str) -> dict[Place, int]:
    """The line of each table, key and item of an array, from 1, in a text that is valid TOML."""
    scan = _Scan(text)
    scan.document()
    return scan.lines


class _Scan:
    """Goes through a valid text once, from its beginning to its end."""

    def __init__(self, text: str) -> None:
        # As tomllib does, so that a value never ends at half a line break.
        self.text = text.replace("\r\n", "\n")
        self.at = 0
        self.lines: dict[Place, int] = {}
        self._counted = (0, 1)
        self._tables: dict[Place, int] = {}

    def document(self) -> None:
        table: Place = ()
        while self._gap() < len(self.text):
            if self._next("[["):
                table = self._header(self._keys(), is_item=True)
                self.at += 2
            elif self._next("["):
                table = self._header(self._keys(), is_item=False)
                self.at += 1
            else:
                self._pair(table)

    def _gap(self) -> int:
        """Past spaces, line breaks and comments."""
        self._past(_GAP)
        return self.at

    def _past(self, pattern: re.Pattern[str]) -> re.Match[str]:
        matched = pattern.match(self.text, self.at)
        if matched is None:  # pragma: no cover  # tomllib has taken the text
            raise ValueError(f"no TOML at character {self.at}")
        self.at = matched.end()
        return matched

    def _next(self, word: str) -> bool:
        if self.text.startswith(word, self.at):
            self.at += len(word)
            return True
        return False

    def _note(self, place: Place) -> None:
        if place not in self.lines:
            before, line = self._counted
            line += self.text.count("\n", before, self.at)
            self._counted = (self.at, line)
            self.lines[place] = line

    def _keys(self) -> list[str]:
        keys = []
        while True:
            bare, quoted, literal = self._past(_KEY).groups()
            if quoted is not None:
                keys.append(str(tomllib.loads(f"k = {quoted}")["k"]))
            else:
                keys.append(bare if bare is not None else literal)
            if not self._next("."):
                return keys

    def _header(self, keys: list[str], *, is_item: bool) -> Place:
        place: Place = ()
        for position, key in enumerate(keys):
            place = (*place, key)
            self._note(place)
            last = self._tables.get(place)
            if is_item and position == len(keys) - 1:
                last = self._tables[place] = 0 if last is None else last + 1
            if last is not None:
                place = (*place, last)
                self._note(place)
        return place

    def _pair(self, table: Place) -> None:
        place = table
        for key in self._keys():
            place = (*place, key)
            self._note(place)
        self.at += 1  # the "="
        self._past(_SPACE)
        self._value(place)

    def _value(self, place: Place) -> None:
        self._note(place)
        if self._next("["):
            position = 0
            while self._gap() < len(self.text) and not self._next("]"):
                self._value((*place, position))
                position += 1
                self._gap()
                self._next(",")
        elif self._next("{"):
            while self._gap() < len(self.text) and not self._next("}"):
                self._pair(place)
                self._gap()
                self._next(",")
        elif self.text[self.at] in "\"'":
            self._past(_STRING)
        else:
            self._past(_BARE)
