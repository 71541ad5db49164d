"""The bundle directory: which files it has, what `bundle.json` says, and how both are checked.

Standard library only: the device's runtime reads bundles with this file.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FORMAT_NAME = "ti-qat-bundle"
FORMAT_VERSION = 1
MANIFEST_FILE = "bundle.json"
MODEL_FILE = "model.onnx"
WEIGHTS_FILE = "model.bin"
TOKENIZER_FILE = "tokenizer.json"
PAYLOAD_FILES = (MODEL_FILE, WEIGHTS_FILE, TOKENIZER_FILE)
MAX_MANIFEST_BYTES = 1 << 20

_SHA256 = re.compile(r"[0-9a-f]{64}")


class BundleError(ValueError):
    """A bundle that breaks its contract; says where, what was expected and what was found."""

    def __init__(self, file: Path | str, where: str, *, expected: str, found: str) -> None:
        self.file = Path(file)
        self.where = where
        self.expected = expected
        self.found = found
        super().__init__(f"{file}: {where}: expected {expected}, found {found}")


@dataclass(frozen=True)
class WeightFigures:
    """What the ternary tensors of one kind take on disk."""

    weights: int
    packed_bytes: int
    scale_bytes: int
    bits_per_weight: float
    bits_per_weight_with_scales: float


@dataclass(frozen=True)
class MacCounts:
    """Integer multiply-accumulates of a forward pass: `per_token` and `per_token_squared` of a sequence's tokens."""

    per_token: int
    per_token_squared: int
    per_sequence: int

    def of(self, batch: int, tokens: int) -> int:
        """Return the multiply-accumulates of `batch` sequences of `tokens` tokens each."""
        return batch * (tokens * (self.per_token + tokens * self.per_token_squared) + self.per_sequence)


@dataclass(frozen=True)
class Manifest:
    """The whole of `bundle.json` but its format and version.

    A bundle of one label is a regression: its only logit is the number of that name. `text_columns` names
    the texts of a row in the model's order, one or two; None where the artifact does not say. `macs` is
    None in bundles from before they were counted. `files` maps each payload file to its SHA-256;
    `operators` is the version of the custom operators' domain; `artifact` is the digest of the artifact
    that was packed.
    """

    task: str
    labels: tuple[str, ...]
    metric: str
    text_columns: tuple[str, ...] | None
    max_length: int
    pad_token_id: int
    operators: int
    opset: int
    artifact: str
    ternary_linears: WeightFigures
    word_embedding: WeightFigures
    macs: MacCounts | None
    files: Mapping[str, str]

    @property
    def is_regression(self) -> bool:
        """Whether the model predicts a number instead of a class."""
        return len(self.labels) == 1

    @property
    def takes_pairs(self) -> bool | None:
        """Whether a row is two texts instead of one; None where the artifact does not say."""
        return None if self.text_columns is None else len(self.text_columns) == 2


@dataclass(frozen=True)
class Bundle:
    """A validated bundle directory."""

    path: Path
    manifest: Manifest

    @property
    def size_bytes(self) -> int:
        """Bytes of all files on disk."""
        return sum((self.path / name).stat().st_size for name in (MANIFEST_FILE, *PAYLOAD_FILES))


def file_digest(file: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def manifest_json(manifest: Manifest) -> str:
    """Return the text of `bundle.json`."""
    return json.dumps({"format": FORMAT_NAME, "version": FORMAT_VERSION, **asdict(manifest)}, indent=2) + "\n"


def read_bundle(path: Path | str) -> Bundle:
    """Validate a bundle directory, every checksum included; raise BundleError at the first broken rule."""
    root = Path(path)
    if not root.is_dir():
        raise BundleError(root, "bundle", expected="a directory", found="a file" if root.exists() else "nothing")
    manifest = _parse_manifest(_regular_file(root / MANIFEST_FILE))
    for name in PAYLOAD_FILES:
        found = file_digest(_regular_file(root / name))
        if found != manifest.files[name]:
            raise BundleError(root / name, "SHA-256", expected=manifest.files[name], found=found)
    return Bundle(root, manifest)


def _regular_file(file: Path) -> Path:
    if file.is_symlink() or not file.is_file():
        found = "a symbolic link" if file.is_symlink() else "a directory" if file.is_dir() else "nothing"
        raise BundleError(file, "file", expected="a regular file", found=found)
    return file


def _parse_manifest(file: Path) -> Manifest:
    size_bytes = file.stat().st_size
    if size_bytes > MAX_MANIFEST_BYTES:
        raise BundleError(file, "size", expected=f"at most {MAX_MANIFEST_BYTES} bytes", found=f"{size_bytes} bytes")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [key for key, _ in pairs]
        for name in names:
            if names.count(name) > 1:
                raise BundleError(file, name, expected="each key once", found="a duplicate key")
        return dict(pairs)

    try:
        raw = json.loads(file.read_text(encoding="utf-8"), object_pairs_hook=unique)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise BundleError(file, "content", expected="JSON", found=str(error)) from error
    fields = _Fields(file, "", raw)
    fields.constant("format", FORMAT_NAME)
    fields.constant("version", FORMAT_VERSION)
    manifest = Manifest(
        task=fields.text("task"),
        labels=fields.strings("labels"),
        metric=fields.text("metric"),
        text_columns=fields.text_columns("text_columns"),
        max_length=fields.integer("max_length", 1),
        pad_token_id=fields.integer("pad_token_id", 0),
        operators=fields.integer("operators", 1),
        opset=fields.integer("opset", 1),
        artifact=fields.digest("artifact"),
        ternary_linears=fields.figures("ternary_linears"),
        word_embedding=fields.figures("word_embedding"),
        macs=fields.macs("macs"),
        files=fields.files("files"),
    )
    fields.nothing_else()
    return manifest


class _Fields:
    """Takes typed fields out of a JSON object, naming the field that is wrong."""

    def __init__(self, file: Path, prefix: str, raw: Any) -> None:
        self.file, self.prefix = file, prefix
        if not isinstance(raw, dict):
            raise BundleError(file, prefix.rstrip(".") or "content", expected="an object", found=repr(raw)[:80])
        self.left: dict[str, Any] = dict(raw)

    def refuse(self, name: str, expected: str, found: Any) -> BundleError:
        return BundleError(self.file, self.prefix + name, expected=expected, found=repr(found)[:80])

    def take(self, name: str, kind: type, expected: str) -> Any:
        if name not in self.left:
            raise BundleError(self.file, self.prefix + name, expected=expected, found="nothing")
        value = self.left.pop(name)
        if type(value) is not kind:
            raise self.refuse(name, expected, value)
        return value

    def constant(self, name: str, value: str | int) -> None:
        found = self.take(name, type(value), repr(value))
        if found != value:
            raise self.refuse(name, repr(value), found)

    def text(self, name: str) -> str:
        return str(self.take(name, str, "a string"))

    def integer(self, name: str, lowest: int) -> int:
        value = int(self.take(name, int, f"an integer >= {lowest}"))
        if value < lowest:
            raise self.refuse(name, f"an integer >= {lowest}", value)
        return value

    def number(self, name: str) -> float:
        return float(self.take(name, float, "a number"))

    def digest(self, name: str) -> str:
        value = self.text(name)
        if not _SHA256.fullmatch(value):
            raise self.refuse(name, "a SHA-256 in hexadecimal", value)
        return value

    def strings(self, name: str) -> tuple[str, ...]:
        values = self.take(name, list, "a list of strings")
        if not values or not all(isinstance(value, str) for value in values):
            raise self.refuse(name, "one or more strings", values)
        return tuple(values)

    def text_columns(self, name: str) -> tuple[str, ...] | None:
        """Take one or two names; earlier bundles lack the field."""
        if self.left.get(name) is None:
            self.left.pop(name, None)
            return None
        names = self.strings(name)
        if len(names) > 2:
            raise self.refuse(name, "one or two strings", list(names))
        return names

    def figures(self, name: str) -> WeightFigures:
        inner = _Fields(self.file, name + ".", self.take(name, dict, "an object"))
        found = WeightFigures(
            weights=inner.integer("weights", 0),
            packed_bytes=inner.integer("packed_bytes", 0),
            scale_bytes=inner.integer("scale_bytes", 0),
            bits_per_weight=inner.number("bits_per_weight"),
            bits_per_weight_with_scales=inner.number("bits_per_weight_with_scales"),
        )
        inner.nothing_else()
        return found

    def macs(self, name: str) -> MacCounts | None:
        """Take the counts of a forward pass; earlier bundles lack the field."""
        if self.left.get(name) is None:
            self.left.pop(name, None)
            return None
        inner = _Fields(self.file, name + ".", self.take(name, dict, "an object"))
        counts = MacCounts(*(inner.integer(part, 0) for part in ("per_token", "per_token_squared", "per_sequence")))
        inner.nothing_else()
        return counts

    def files(self, name: str) -> dict[str, str]:
        """Take the payload's digests. Only the known names are accepted, so no entry can lead out of the bundle."""
        inner = _Fields(self.file, name + ".", self.take(name, dict, "an object"))
        digests = {payload: inner.digest(payload) for payload in PAYLOAD_FILES}
        inner.nothing_else()
        return digests

    def nothing_else(self) -> None:
        if self.left:
            name = next(iter(self.left))
            raise self.refuse(name, "no such field", self.left[name])
