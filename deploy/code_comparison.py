"""The runtime's int8 codes against those of a simulation, row by row and quantiser by quantiser."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from deploy.bundle import Bundle
from deploy.taps import TappedModel, quantizer_outputs
from ti_qat.artifact.evaluation import codes_digest, valid_codes
from ti_qat.artifact.io import Artifact

Array = np.ndarray[Any, Any]

SIMULATION_FILE, CODES_FILE, LOGITS_FILE = "simulation.json", "codes.safetensors", "logits.safetensors"
EXACT_PROFILE = "exact"
BATCH_SIZE = 32


class SimulationError(ValueError):
    """Results of a simulation that cannot be compared; says expected, found and where."""


@dataclass(frozen=True)
class SimulatedCodes:
    """What a simulation left of the first R rows: digests of codes, uint64 (R,), and logits (R, labels)."""

    digests: Mapping[str, Array]
    logits: Array


@dataclass(frozen=True)
class Divergence:
    """The first place, by row and then in execution order, where codes differ."""

    row: int
    activation: str


@dataclass(frozen=True)
class CodeComparison:
    """Codes of the runtime against a simulation's.

    A block is one row's codes at one quantiser. `codes_compared` counts the codes in all blocks,
    `code_mismatches` those in blocks whose digests differ: exact at 0, otherwise an upper bound.
    """

    rows: int
    blocks_compared: int
    codes_compared: int
    code_mismatches: int
    first_divergence: Divergence | None
    logits_bit_identical: bool


def read_simulation(artifact: Artifact, directory: Path) -> SimulatedCodes:
    """Read the results of `ti-qat simulate` for `artifact`; raise SimulationError if they do not fit it."""
    _require_of(artifact, directory / SIMULATION_FILE)
    digests = _read(directory / CODES_FILE)
    logits = _read(directory / LOGITS_FILE).get("logits")
    labels = artifact.encoder.shape.labels
    if logits is None or logits.dtype != np.float32 or logits.ndim != 2 or logits.shape[1] != labels:
        found = "nothing" if logits is None else f"{logits.dtype} {logits.shape}"
        raise SimulationError(f"{directory / LOGITS_FILE}: logits: expected float32 (R, {labels}), found {found}")
    rows = len(logits)
    if rows > artifact.evaluation.rows:
        raise SimulationError(f"{directory}: expected at most {artifact.evaluation.rows} rows, found {rows}")
    for name in quantizer_outputs(artifact.encoder):
        if name not in digests or digests[name].shape != (rows,) or digests[name].dtype != np.uint64:
            raise SimulationError(f"{directory / CODES_FILE}: {name}: expected uint64 ({rows},), found something else")
    return SimulatedCodes(digests, logits)


def _require_of(artifact: Artifact, file: Path) -> None:
    """Raise SimulationError unless `file` tells of `artifact` in the deployed arithmetic."""
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        of, profile = told["artifact_digest"], told["profile"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SimulationError(f"{file}: expected what `ti-qat simulate` writes, found {error!r}") from error
    if of != artifact.digest:
        raise SimulationError(f"{file}: artifact_digest: expected a simulation of {artifact.digest}, found one of {of}")
    if profile != EXACT_PROFILE:
        raise SimulationError(f"{file}: profile: expected {EXACT_PROFILE}, the bundle's arithmetic, found {profile}")


def _read(file: Path) -> dict[str, Array]:
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise SimulationError(f"{file}: expected a safetensors file, found {error}") from error


def compare_codes(
    artifact: Artifact, bundle: Bundle, simulated: SimulatedCodes, on_progress: Callable[[int], None]
) -> CodeComparison:
    """Run the simulated rows through the bundle and compare every block of codes and every logit."""
    model = TappedModel(bundle, artifact.encoder)
    logits = np.empty_like(simulated.logits)
    rows = len(logits)
    sizes = np.zeros((rows, len(model.names)), np.int64)
    differs = np.zeros(sizes.shape, np.bool_)
    for chosen, inputs in artifact.evaluation.batches(BATCH_SIZE, limit=rows):
        logits[chosen], codes = model.run(inputs)
        for column, name in enumerate(model.names):
            for position, row in enumerate(chosen):
                block = valid_codes(codes[name], position, int(inputs["lengths"][position]))
                sizes[row, column] = block.size
                differs[row, column] = codes_digest(block) != int(simulated.digests[name][row])
        on_progress(len(chosen))
    first = np.argwhere(differs)
    return CodeComparison(
        rows=rows,
        blocks_compared=differs.size,
        codes_compared=int(sizes.sum()),
        code_mismatches=int(sizes[differs].sum()),
        first_divergence=Divergence(int(first[0][0]), model.names[int(first[0][1])]) if len(first) else None,
        logits_bit_identical=logits.tobytes() == simulated.logits.tobytes(),
    )
