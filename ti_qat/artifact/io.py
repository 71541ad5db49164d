"""Reading and writing an artifact directory; docs/artifact.md describes the files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ti_qat.artifact.atomic import sha256_of, whole_directory
from ti_qat.artifact.encoder import Encoder, Tensor, build_encoder, hidden_state_names
from ti_qat.artifact.errors import ArtifactError
from ti_qat.artifact.evaluation import EvaluationSplit, label_dtype
from ti_qat.artifact.schema import (
    FORMAT_NAME,
    FORMAT_VERSION,
    Digests,
    EncoderShape,
    Header,
    Provenance,
    Quantization,
    Task,
    Tokenization,
)

Array = np.ndarray[Any, Any]

HEADER_FILE, TENSORS_FILE, TOKENIZER_FILE = "artifact.json", "tensors.safetensors", "tokenizer.json"
EVALUATION_FILE = "evaluation.safetensors"
TEACHER_LOGITS = "teacher_logits"
MAX_HEADER_BYTES = 1 << 20
MAX_TOKENIZER_BYTES = 256 << 20
_DTYPES = {"F32": "float32", "I8": "int8", "I32": "int32"}


@dataclass(frozen=True)
class Artifact:
    """A validated artifact; every array is read-only. `digest` is the SHA-256 of artifact.json."""

    path: Path
    header: Header
    encoder: Encoder
    parameters: Mapping[str, Array]
    tokenizer_json: str
    evaluation: EvaluationSplit
    digest: str


def save(
    path: Path,
    *,
    task: Task,
    encoder: EncoderShape,
    quantization: Quantization,
    tokenization: Tokenization,
    provenance: Provenance,
    parameters: Mapping[str, Array],
    tokenizer_json: str,
    evaluation: EvaluationSplit,
) -> Artifact:
    """Write an artifact directory whole and return it as `load` reads it back.

    The same values give the same bytes. Raises ArtifactError where they break the contract.
    """
    with whole_directory(path, HEADER_FILE) as fresh:
        save_file(dict(parameters), fresh / TENSORS_FILE)
        (fresh / TOKENIZER_FILE).write_text(tokenizer_json, encoding="utf-8")
        save_file(_evaluation_tensors(evaluation), fresh / EVALUATION_FILE)
        header = Header(
            format=FORMAT_NAME,
            version=FORMAT_VERSION,
            task=task,
            encoder=encoder,
            quantization=quantization,
            tokenization=tokenization,
            provenance=provenance,
            digests=Digests(
                tensors=sha256_of(fresh / TENSORS_FILE),
                tokenizer=sha256_of(fresh / TOKENIZER_FILE),
                evaluation=sha256_of(fresh / EVALUATION_FILE),
            ),
        )
        (fresh / HEADER_FILE).write_text(header.model_dump_json(indent=2) + "\n", encoding="utf-8")
        artifact = load(fresh)
    return replace(artifact, path=Path(path))


def load(path: Path | str) -> Artifact:
    """Read and validate an artifact directory; raise ArtifactError at the first broken rule."""
    root = Path(path)
    if not root.is_dir():
        raise ArtifactError(
            root, "artifact", expected="a directory", found="nothing" if not root.exists() else "a file"
        )
    header_bytes = _read_small(root / HEADER_FILE, MAX_HEADER_BYTES)
    header = _parse_header(root / HEADER_FILE, header_bytes)
    digests = header.digests
    for name, digest in (
        (TENSORS_FILE, digests.tensors),
        (TOKENIZER_FILE, digests.tokenizer),
        (EVALUATION_FILE, digests.evaluation),
    ):
        _check_digest(_regular_file(root / name), digest)
    encoder = build_encoder(header.encoder, header.quantization)
    parameters = _read_tensors(root / TENSORS_FILE, encoder.parameters)
    _check_values(root / TENSORS_FILE, encoder, parameters)
    return Artifact(
        path=root,
        header=header,
        encoder=encoder,
        parameters=MappingProxyType(parameters),
        tokenizer_json=_tokenizer(root / TOKENIZER_FILE),
        evaluation=_read_evaluation(root / EVALUATION_FILE, header, encoder),
        digest=hashlib.sha256(header_bytes).hexdigest(),
    )


def _regular_file(file: Path) -> Path:
    if file.is_symlink() or not file.is_file():
        found = "a symbolic link" if file.is_symlink() else "a directory" if file.is_dir() else "nothing"
        raise ArtifactError(file, "file", expected="a regular file", found=found)
    return file


def _read_small(file: Path, limit_bytes: int) -> bytes:
    size_bytes = _regular_file(file).stat().st_size
    if size_bytes > limit_bytes:
        raise ArtifactError(file, "size", expected=f"at most {limit_bytes} bytes", found=f"{size_bytes} bytes")
    return file.read_bytes()


def _check_digest(file: Path, expected: str) -> None:
    found = sha256_of(file)
    if found != expected:
        raise ArtifactError(file, "SHA-256", expected=expected, found=found)


def _tokenizer(file: Path) -> str:
    try:
        return _read_small(file, MAX_TOKENIZER_BYTES).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ArtifactError(file, "encoding", expected="UTF-8", found=str(error)) from error


def _parse_header(file: Path, content: bytes) -> Header:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise ArtifactError(file, key, expected="each key once", found="a duplicate key")
            found[key] = value
        return found

    try:
        raw = json.loads(content.decode("utf-8"), object_pairs_hook=unique)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ArtifactError(file, "content", expected="JSON", found=str(error)) from error
    if isinstance(raw, dict) and raw.get("format") == FORMAT_NAME and raw.get("version") != FORMAT_VERSION:
        raise ArtifactError(file, "version", expected=str(FORMAT_VERSION), found=repr(raw.get("version")))
    try:
        return Header.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "header"
        raise ArtifactError(file, where, expected=first["msg"], found=repr(first["input"])[:80]) from error


def _read_tensors(file: Path, expected: Mapping[str, Tensor], optional: Collection[str] = ()) -> dict[str, Array]:
    """Compare names, dtypes and shapes with `expected`, then read; symbols in shapes match any size.

    Of `optional` names only those in the file are returned.
    """
    try:
        with safe_open(file, "numpy") as stream:
            found = set(stream.keys())
            expected = {name: spec for name, spec in expected.items() if name in found or name not in optional}
            for name in sorted(expected.keys() ^ found):
                what = ("the tensor", "nothing") if name in expected else ("no such tensor", "one")
                raise ArtifactError(file, name, expected=what[0], found=what[1])
            for name, spec in expected.items():
                view = stream.get_slice(name)
                _check_spec(file, spec, _DTYPES.get(view.get_dtype(), view.get_dtype()), tuple(view.get_shape()))
            tensors = {name: stream.get_tensor(name) for name in expected}
    except SafetensorError as error:
        raise ArtifactError(file, "content", expected="a safetensors file", found=str(error)) from error
    for tensor in tensors.values():
        tensor.setflags(write=False)
    return tensors


def _check_spec(file: Path, spec: Tensor, dtype: str, shape: tuple[int, ...]) -> None:
    matches = len(shape) == len(spec.shape) and all(
        isinstance(want, str) or want == have for want, have in zip(spec.shape, shape, strict=True)
    )
    if dtype != spec.dtype or not matches:
        wanted = f"{spec.dtype} {list(spec.shape)}"
        raise ArtifactError(file, spec.name, expected=wanted, found=f"{dtype} {list(shape)}")


def _check_values(file: Path, encoder: Encoder, parameters: Mapping[str, Array]) -> None:
    activation_scales = {
        name
        for op in encoder.operations
        for role, name in op.inputs.items()
        if role.endswith("scale") and name.endswith(".scale")
    }
    for name, tensor in parameters.items():
        if encoder.parameters[name].ternary:
            if tensor.min() < -1 or tensor.max() > 1:
                worst = tensor.min() if tensor.min() < -1 else tensor.max()
                raise ArtifactError(file, name, expected="codes in {-1, 0, 1}", found=str(int(worst)))
            continue
        _check_finite(file, name, tensor)
        if name.endswith(("weight_scale", "word_scale")) and tensor.min() < 0:
            raise ArtifactError(file, name, expected="scales >= 0", found=str(tensor.min()))
        if name in activation_scales or name == "layer_norm.epsilon":
            # A subnormal scale has no finite reciprocal, so its codes would not be finite.
            smallest = np.finfo(np.float32).tiny
            if tensor.min() < smallest:
                raise ArtifactError(file, name, expected=f"a normal number >= {smallest}", found=str(tensor.min()))


def _check_finite(file: Path, name: str, tensor: Array) -> None:
    if not np.isfinite(tensor).all():
        raise ArtifactError(file, name, expected="finite numbers", found="NaN or infinity")


def _evaluation_tensors(split: EvaluationSplit) -> dict[str, Array]:
    return {
        "input_ids": split.input_ids,
        "token_type_ids": split.token_type_ids,
        "lengths": split.lengths,
        "labels": split.labels,
        "logits": split.logits,
        **{f"golden.{name}": values for name, values in split.golden.items()},
        **({} if split.teacher_logits is None else {TEACHER_LOGITS: split.teacher_logits}),
    }


def _read_evaluation(file: Path, header: Header, encoder: Encoder) -> EvaluationSplit:
    shape, metric = encoder.shape, header.task.metric
    specs = [
        Tensor("input_ids", "int32", ("R", "T")),
        Tensor("token_type_ids", "int32", ("R", "T")),
        Tensor("lengths", "int32", ("R",)),
        Tensor("labels", label_dtype(metric), ("R",)),
        Tensor("logits", "float32", ("R", shape.labels)),
        Tensor(TEACHER_LOGITS, "float32", ("R", shape.labels)),
        *(Tensor(f"golden.{name}", "float32", ("G", "T", shape.hidden)) for name in hidden_state_names(shape)),
    ]
    tensors = _read_tensors(file, {spec.name: spec for spec in specs}, optional=(TEACHER_LOGITS,))
    sizes: dict[str, int] = {}
    for spec in (spec for spec in specs if spec.name in tensors):
        for symbol, size in zip(spec.shape, tensors[spec.name].shape, strict=True):
            if isinstance(symbol, str) and sizes.setdefault(symbol, size) != size:
                raise ArtifactError(file, spec.name, expected=f"{symbol} = {sizes[symbol]}", found=str(size))
        if spec.dtype == "float32":
            _check_finite(file, spec.name, tensors[spec.name])
    longest = header.tokenization.max_length
    if sizes["R"] < 1 or sizes["G"] > sizes["R"] or not 1 <= sizes["T"] <= longest:
        limit = f"R >= 1, G <= R, 1 <= T <= {longest}"
        raise ArtifactError(file, "sizes", expected=limit, found=str(sizes))
    for name, low, high in (
        ("input_ids", 0, shape.vocabulary - 1),
        ("token_type_ids", 0, shape.token_types - 1),
        ("lengths", 1, sizes["T"]),
        *(() if metric.is_regression else (("labels", 0, shape.labels - 1),)),
    ):
        if tensors[name].min() < low or tensors[name].max() > high:
            span = f"{tensors[name].min()} to {tensors[name].max()}"
            raise ArtifactError(file, name, expected=f"values from {low} to {high}", found=span)
    golden = {name: tensors[f"golden.{name}"] for name in hidden_state_names(shape)}
    plain = {name: tensors[name] for name in ("input_ids", "token_type_ids", "lengths", "labels", "logits")}
    return EvaluationSplit(**plain, golden=MappingProxyType(golden), teacher_logits=tensors.get(TEACHER_LOGITS))
