"""`ti-qat inspect`: what an artifact or a bundle is, in one page."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from deploy.bundle import MANIFEST_FILE, read_bundle
from ti_qat.artifact import io
from ti_qat.artifact.encoder import OpKind, gemms


class InspectionError(ValueError):
    """A path that is neither an artifact nor a bundle."""


def describe(path: Path) -> dict[str, Any]:
    """Validate the artifact or bundle at `path` and return its description, ready for JSON.

    Raises ArtifactError or BundleError for a broken one, InspectionError for anything else.
    """
    if (path / MANIFEST_FILE).exists():
        bundle = read_bundle(path)
        return {"kind": "bundle", "bytes": bundle.size_bytes, **asdict(bundle.manifest)}
    if (path / io.HEADER_FILE).exists():
        return _describe_artifact(path)
    raise InspectionError(f"{path}: expected a directory with {io.HEADER_FILE} or {MANIFEST_FILE}, found neither")


def _describe_artifact(path: Path) -> dict[str, Any]:
    artifact = io.load(path)
    encoder = artifact.encoder
    tokens = artifact.header.tokenization.max_length
    ternary = [artifact.parameters[name] for name, spec in encoder.parameters.items() if spec.ternary]
    weights = sum(codes.size for codes in ternary)
    return {
        "kind": "artifact",
        "bytes": sum(file.stat().st_size for file in path.iterdir()),
        "digest": artifact.digest,
        **artifact.header.model_dump(mode="json", exclude={"format", "digests"}),
        "evaluation_rows": artifact.evaluation.rows,
        "ternary_weights": weights,
        "zero_weight_fraction": float(sum((codes == 0).sum() for codes in ternary) / weights),
        "float_parameters": sum(
            artifact.parameters[n].size for n, spec in encoder.parameters.items() if not spec.ternary
        ),
        "operations": {kind.value: len(encoder.of_kind(kind)) for kind in OpKind if encoder.of_kind(kind)},
        "integer_macs_at_max_length": sum(gemm.macs for gemm in gemms(encoder, 1, tokens)),
    }


@click.command(short_help="Describe an artifact or a bundle.")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def inspect(path: Path, as_json: bool) -> None:
    """Validate an artifact or a bundle and describe it.

    \b
    Example:
      ti-qat inspect runs/movie_reviews/artifact
    """
    description = describe(path)
    if as_json:
        click.echo(json.dumps(description))
        return
    for line in _lines(description):
        click.echo(line)


def _lines(values: dict[str, Any], indent: str = "") -> list[str]:
    lines = []
    for key, value in values.items():
        if isinstance(value, dict):
            lines += [f"{indent}{key}:", *_lines(value, indent + "  ")]
        elif isinstance(value, list | tuple):
            lines.append(f"{indent}{key}: {', '.join(map(str, value))}")
        elif value is None:
            lines.append(f"{indent}{key}: unknown")
        else:
            lines.append(f"{indent}{key}: {value:,}" if isinstance(value, int) else f"{indent}{key}: {value}")
    return lines
