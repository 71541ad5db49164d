"""Typed fields of a JSON object that nobody vouches for."""

from __future__ import annotations

import json
import re
import unicodedata
from pathlib import Path
from typing import Any

from deploy.bundle_files import BundleError

MAX_INTEGER = (1 << 63) - 1

_SHA256 = re.compile(r"[0-9a-f]{64}")


def _breaks_lines(text: str) -> bool:
    """Whether a text that is printed could move a terminal's cursor or break a line, or cannot be printed at all."""
    return any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in text)


def json_object(file: Path, content: bytes) -> Fields:
    """Parse the object of a JSON file; raise BundleError for anything else, and for a key that comes twice."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found:
                raise BundleError(file, name, expected="each key once", found="a duplicate key")
            found[name] = value
        return found

    try:
        raw = json.loads(content.decode("utf-8"), object_pairs_hook=unique)
    except BundleError:
        raise
    except (ValueError, RecursionError) as error:
        raise BundleError(file, "content", expected="JSON", found=str(error)) from error
    return Fields(file, "", raw)


class Fields:
    """Takes typed fields out of a JSON object, naming the field that is wrong."""

    def __init__(self, file: Path, prefix: str, raw: Any) -> None:
        self.file, self.prefix = file, prefix
        if not isinstance(raw, dict):
            raise BundleError(file, prefix.rstrip(".") or "content", expected="an object", found=repr(raw)[:80])
        self.left: dict[str, Any] = dict(raw)

    def inner(self, name: str) -> Fields:
        """Take an object, whose fields are named after it."""
        return Fields(self.file, name + ".", self.take(name, dict, "an object"))

    def absent(self, name: str) -> bool:
        """Drop a field that is null; return whether the object lacks it."""
        if self.left.get(name) is None:
            self.left.pop(name, None)
        return name not in self.left

    def refuse(self, name: str, expected: str, found: Any) -> BundleError:
        """Return the error that names a field."""
        return BundleError(self.file, self.prefix + name, expected=expected, found=repr(found)[:80])

    def take(self, name: str, kind: type, expected: str) -> Any:
        """Take a value of a type, which is not one of its subtypes."""
        if name not in self.left:
            raise BundleError(self.file, self.prefix + name, expected=expected, found="nothing")
        value = self.left.pop(name)
        if type(value) is not kind:
            raise self.refuse(name, expected, value)
        return value

    def constant(self, name: str, value: str | int) -> None:
        """Take a field that has one value."""
        found = self.take(name, type(value), repr(value))
        if found != value:
            raise self.refuse(name, repr(value), found)

    def text(self, name: str) -> str:
        """Take a string that can be printed on a line."""
        value = str(self.take(name, str, "a string"))
        if _breaks_lines(value):
            raise self.refuse(name, "a string without control characters", value)
        return value

    def integer(self, name: str, lowest: int, highest: int = MAX_INTEGER) -> int:
        """Take an integer from `lowest` to `highest`."""
        value = int(self.take(name, int, f"an integer >= {lowest}"))
        if value < lowest:
            raise self.refuse(name, f"an integer >= {lowest}", value)
        if value > highest:
            raise self.refuse(name, f"an integer <= {highest}", value)
        return value

    def number(self, name: str) -> float:
        """Take a float."""
        return float(self.take(name, float, "a number"))

    def digest(self, name: str) -> str:
        """Take a SHA-256."""
        value = self.text(name)
        if not _SHA256.fullmatch(value):
            raise self.refuse(name, "a SHA-256 in hexadecimal", value)
        return value

    def strings(self, name: str) -> tuple[str, ...]:
        """Take one or more strings that can be printed on a line."""
        values = self.take(name, list, "a list of strings")
        if not values or not all(isinstance(value, str) for value in values):
            raise self.refuse(name, "one or more strings", values)
        if breaking := [value for value in values if _breaks_lines(value)]:
            raise self.refuse(name, "strings without control characters", breaking[0])
        return tuple(values)

    def nothing_else(self) -> None:
        """Raise BundleError if a field was not taken."""
        if self.left:
            name = next(iter(self.left))
            raise self.refuse(name, "no such field", self.left[name])
