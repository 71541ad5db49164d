"""The bundle directory: which files it has, what `bundle.json` says, and how both are checked.

Standard library only: the device's runtime reads bundles with this file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar, cast

from deploy.bundle_files import BundleError, FileStamp, digest_and_stamp, read_at_most
from deploy.manifest_fields import Fields, json_object

FORMAT_NAME = "ti-qat-bundle"
FORMAT_VERSION = 1
MANIFEST_FILE = "bundle.json"
MODEL_FILE = "model.onnx"
WEIGHTS_FILE = "model.bin"
TOKENIZER_FILE = "tokenizer.json"
# What the graph is made of, and bits a ternary weight takes; the first of each is the default.
STANDARD = "standard"
PROFILES = ("ops", STANDARD)
WEIGHT_BITS = (2.0, 1.6)
PAYLOAD_FILES = (MODEL_FILE, WEIGHTS_FILE, TOKENIZER_FILE)
MAX_MANIFEST_BYTES = 1 << 20
# Of the files that are read into memory; weights are mapped.
MAX_READ_BYTES = {MODEL_FILE: 1 << 24, TOKENIZER_FILE: 1 << 26}
MAX_TOKENS = 1 << 20
MAX_TOKEN_ID = (1 << 31) - 1

Choice = TypeVar("Choice", str, float)


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
    """Integer multiply-accumulates that a forward pass computes, by the tokens of a sequence and their square."""

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
    `profile` is one of PROFILES, `weight_bits` one of WEIGHT_BITS; bundles from before them are `ops` at
    2.0. `operators` is the version of the custom operators' domain, 0 in a `standard` bundle, which has
    none; `artifact` is the digest of the artifact that was packed.
    """

    task: str
    labels: tuple[str, ...]
    metric: str
    text_columns: tuple[str, ...] | None
    max_length: int
    pad_token_id: int
    profile: str
    weight_bits: float
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
    def is_standard(self) -> bool:
        """Whether the model is made of ONNX Runtime's operators alone, and needs no library of ours."""
        return self.profile == STANDARD

    @property
    def takes_pairs(self) -> bool | None:
        """Whether a row is two texts instead of one; None where the artifact does not say."""
        return None if self.text_columns is None else len(self.text_columns) == 2


@dataclass(frozen=True)
class Bundle:
    """A validated bundle directory."""

    path: Path
    manifest: Manifest
    stamps: Mapping[str, FileStamp] = field(default_factory=dict, compare=False, repr=False)

    @property
    def size_bytes(self) -> int:
        """Bytes of all files on disk."""
        return sum((self.path / name).stat().st_size for name in (MANIFEST_FILE, *PAYLOAD_FILES))

    def read(self, name: str) -> bytes:
        """Return a payload file's content, which is that of the manifest's digest; else raise BundleError."""
        content = read_at_most(self.path / name, MAX_READ_BYTES[name])
        self._require_digest(name, hashlib.sha256(content).hexdigest())
        return content

    def require_unchanged(self, name: str) -> None:
        """Raise BundleError if the name means another file, or another content, than when the bundle was read."""
        if FileStamp.at(self.path / name) != self.stamps.get(name):
            raise BundleError(self.path / name, "file", expected="the one whose checksum was taken", found="another")

    def _require_digest(self, name: str, found: str) -> None:
        if found != self.manifest.files[name]:
            raise BundleError(self.path / name, "SHA-256", expected=self.manifest.files[name], found=found)


def manifest_json(manifest: Manifest) -> str:
    """Return the text of `bundle.json`."""
    return json.dumps({"format": FORMAT_NAME, "version": FORMAT_VERSION, **asdict(manifest)}, indent=2) + "\n"


def read_bundle(path: Path | str) -> Bundle:
    """Validate a bundle directory, every checksum included; raise BundleError at the first broken rule."""
    root = Path(path)
    if not root.is_dir():
        raise BundleError(root, "bundle", expected="a directory", found="a file" if root.exists() else "nothing")
    manifest = _parse_manifest(root / MANIFEST_FILE)
    found = {name: digest_and_stamp(root / name) for name in PAYLOAD_FILES}
    bundle = Bundle(root, manifest, {name: stamp for name, (_, stamp) in found.items()})
    for name, (digest, _) in found.items():
        bundle._require_digest(name, digest)
    return bundle


def _parse_manifest(file: Path) -> Manifest:
    fields = json_object(file, read_at_most(file, MAX_MANIFEST_BYTES))
    fields.constant("format", FORMAT_NAME)
    fields.constant("version", FORMAT_VERSION)
    manifest = Manifest(
        task=fields.text("task"),
        labels=fields.strings("labels"),
        metric=fields.text("metric"),
        text_columns=_text_columns(fields),
        max_length=fields.integer("max_length", 1, MAX_TOKENS),
        pad_token_id=fields.integer("pad_token_id", 0, MAX_TOKEN_ID),
        profile=_one_of(fields, "profile", PROFILES),
        weight_bits=_one_of(fields, "weight_bits", WEIGHT_BITS),
        operators=fields.integer("operators", 0),
        opset=fields.integer("opset", 1),
        artifact=fields.digest("artifact"),
        ternary_linears=_weight_figures(fields.inner("ternary_linears")),
        word_embedding=_weight_figures(fields.inner("word_embedding")),
        macs=None if fields.absent("macs") else _mac_counts(fields.inner("macs")),
        files=_digests(fields.inner("files")),
    )
    fields.nothing_else()
    return manifest


def _text_columns(fields: Fields) -> tuple[str, ...] | None:
    """Take one or two names; earlier bundles lack the field."""
    if fields.absent("text_columns"):
        return None
    names = fields.strings("text_columns")
    if len(names) > 2:
        raise fields.refuse("text_columns", "one or two strings", list(names))
    return names


def _one_of(fields: Fields, name: str, choices: tuple[Choice, ...]) -> Choice:
    """Take one of `choices`; earlier bundles lack the field and have the first."""
    if fields.absent(name):
        return choices[0]
    expected = "one of " + ", ".join(map(str, choices))
    value = fields.take(name, type(choices[0]), expected)
    if value not in choices:
        raise fields.refuse(name, expected, value)
    return cast(Choice, value)


def _weight_figures(fields: Fields) -> WeightFigures:
    found = WeightFigures(
        weights=fields.integer("weights", 0),
        packed_bytes=fields.integer("packed_bytes", 0),
        scale_bytes=fields.integer("scale_bytes", 0),
        bits_per_weight=fields.number("bits_per_weight"),
        bits_per_weight_with_scales=fields.number("bits_per_weight_with_scales"),
    )
    fields.nothing_else()
    return found


def _mac_counts(fields: Fields) -> MacCounts:
    counts = MacCounts(*(fields.integer(part, 0) for part in ("per_token", "per_token_squared", "per_sequence")))
    fields.nothing_else()
    return counts


def _digests(fields: Fields) -> dict[str, str]:
    """Take the payload's digests. Only the known names are accepted, so no entry can lead out of the bundle."""
    digests = {payload: fields.digest(payload) for payload in PAYLOAD_FILES}
    fields.nothing_else()
    return digests
