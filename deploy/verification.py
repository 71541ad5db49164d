"""Holding a bundle against its artifact: every row, every instruction set, bit by bit."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deploy.bundle import STANDARD, Bundle, Manifest, read_bundle
from deploy.code_comparison import CodeComparison, compare_codes, read_simulation
from deploy.device_figures import device_figures
from deploy.runtime import Classifier
from deploy.runtime.session import supported_isas
from ti_qat.artifact.encoder import INPUT_IDS, LENGTHS, TOKEN_TYPE_IDS, execute
from ti_qat.artifact.evaluation import label_agreement, largest_difference, predictions, score
from ti_qat.artifact.io import Artifact
from ti_qat.artifact.reference import KERNELS

Array = np.ndarray[Any, Any]
Progress = Callable[[int], None]

BATCH_SIZE = 32


class VerificationError(ValueError):
    """A bundle and an artifact or simulation that do not belong together."""


@dataclass(frozen=True)
class Verification:
    """What the runtime computed on the `rows` rows of the evaluation split, and how exactly.

    `label_agreement` and `logits_max_abs_difference` are against the artifact's own logits (the
    torch student); a regression has no label agreement, and its logits are its predictions.
    `isa_bit_identical` is None where only one instruction set was run, as is `threads_bit_identical`
    for a single thread count. The oracle is ti_qat.artifact.reference on the `oracle_rows` golden
    rows; a bundle of the profile `standard` comes within `oracle_max_abs_difference` of it and need not
    have its bits. `simulation` is None where no simulation was given. Latency is the median over rows of one
    sequence on one thread; latency and `peak_rss_bytes` are those of a process of its own that
    imports the runtime only.
    """

    artifact_digest: str
    profile: str
    weight_bits: float
    rows: int
    metric: str
    score: float
    label_agreement: float | None
    logits_max_abs_difference: float
    isas: tuple[str, ...]
    threads: tuple[int, ...]
    isa_bit_identical: bool | None
    threads_bit_identical: bool | None
    oracle_rows: int
    oracle_bit_identical: bool | None
    oracle_max_abs_difference: float | None
    simulation: CodeComparison | None
    latency_ms: float
    latency_rows: int
    peak_rss_bytes: int
    bundle_bytes: int
    bits_per_weight: float
    bits_per_weight_with_scales: float

    @property
    def exact(self) -> bool:
        """Whether every comparison that was made found equal bits."""
        checks = [self.isa_bit_identical, self.threads_bit_identical, self.oracle_bit_identical]
        if self.simulation is not None:
            checks += [self.simulation.logits_bit_identical, self.simulation.code_mismatches == 0]
        return False not in checks

    @property
    def as_promised(self) -> bool:
        """Whether all bits are equal that must be; ONNX Runtime promises none for its own operators."""
        return self.exact or self.profile == STANDARD


def default_isas(manifest: Manifest) -> tuple[str, ...]:
    """Return the instruction sets that a bundle is run on: all of this machine's, or none where it has no kernels."""
    return () if manifest.is_standard else supported_isas()


def passes(isas: Sequence[str], threads: Sequence[int], simulation: Path | None) -> int:
    """Return how often `verify` runs the evaluation split."""
    return max(len(isas), 1) * len(threads) + (simulation is not None)


def verify(
    artifact: Artifact,
    bundle_dir: Path,
    *,
    simulation_dir: Path | None = None,
    threads: Sequence[int] = (1, 2),
    isas: Sequence[str] | None = None,
    on_progress: Progress = lambda rows: None,
) -> Verification:
    """Run the whole evaluation split through the bundle in every combination and compare.

    `isas` defaults to all that this machine supports; `on_progress` is called with the number of
    rows just done. Raises BundleError, VerificationError, SimulationError or RuntimeConfigurationError.
    """
    bundle = _matching_bundle(artifact, bundle_dir)
    simulated = None if simulation_dir is None else read_simulation(artifact, simulation_dir)
    chosen = default_isas(bundle.manifest) if isas is None else tuple(isas)
    logits = {
        (isa, count): _run_split(artifact, bundle, isa, count, on_progress)
        for isa, count in itertools.product(chosen or (None,), threads)
    }
    codes = None if simulated is None else compare_codes(artifact, bundle, simulated, on_progress)
    by_isa = [[logits[isa, count] for isa in chosen or (None,)] for count in threads]
    by_threads = [[logits[isa, count] for count in threads] for isa in chosen or (None,)]
    identical = (_same_over(by_isa), _same_over(by_threads))
    return _report(artifact, bundle, next(reversed(logits.values())), identical, codes, (chosen, tuple(threads)))


def _report(
    artifact: Artifact,
    bundle: Bundle,
    deployed: Array,
    identical: tuple[bool | None, bool | None],
    codes: CodeComparison | None,
    ran: tuple[tuple[str, ...], tuple[int, ...]],
) -> Verification:
    split, metric = artifact.evaluation, artifact.header.task.metric
    oracle = _oracle_logits(artifact)
    device = device_figures(bundle, split)
    figures = bundle.manifest.ternary_linears
    return Verification(
        artifact_digest=artifact.digest,
        profile=bundle.manifest.profile,
        weight_bits=bundle.manifest.weight_bits,
        rows=split.rows,
        metric=metric.value,
        score=score(metric, split.labels, predictions(metric, deployed)),
        label_agreement=label_agreement(metric, deployed, split.logits),
        logits_max_abs_difference=largest_difference(deployed, split.logits),
        isas=ran[0],
        threads=ran[1],
        isa_bit_identical=identical[0],
        threads_bit_identical=identical[1],
        oracle_rows=len(oracle),
        oracle_bit_identical=_same(oracle, deployed[: len(oracle)]) if len(oracle) else None,
        oracle_max_abs_difference=largest_difference(deployed[: len(oracle)], oracle) if len(oracle) else None,
        simulation=codes,
        latency_ms=device.latency_ms,
        latency_rows=device.rows,
        peak_rss_bytes=device.peak_rss_bytes,
        bundle_bytes=bundle.size_bytes,
        bits_per_weight=figures.bits_per_weight,
        bits_per_weight_with_scales=figures.bits_per_weight_with_scales,
    )


def _matching_bundle(artifact: Artifact, bundle_dir: Path) -> Bundle:
    bundle = read_bundle(bundle_dir)
    if bundle.manifest.artifact != artifact.digest:
        raise VerificationError(
            f"{bundle_dir}: artifact: expected a bundle of {artifact.digest}, found one of {bundle.manifest.artifact}"
        )
    header, manifest = artifact.header, bundle.manifest
    for field, expected, found in (
        ("task", header.task.name, manifest.task),
        ("labels", list(header.task.labels), list(manifest.labels)),
        ("metric", header.task.metric.value, manifest.metric),
        ("text_columns", header.task.text_columns, manifest.text_columns),
        ("max_length", header.tokenization.max_length, manifest.max_length),
        ("pad_token_id", header.tokenization.pad_token_id, manifest.pad_token_id),
    ):
        if expected != found:
            raise VerificationError(f"{bundle_dir}: {field}: expected {expected} as in the artifact, found {found}")
    return bundle


def _run_split(artifact: Artifact, bundle: Bundle, isa: str | None, threads: int, on_progress: Progress) -> Array:
    """Return the logits of all rows, in the order of the split."""
    classifier = Classifier.load(bundle.path, threads=threads, isa=isa)
    split = artifact.evaluation
    logits = np.empty((split.rows, artifact.encoder.shape.labels), np.float32)
    for rows, inputs in split.batches(BATCH_SIZE):
        logits[rows] = classifier.logits(inputs)
        on_progress(len(rows))
    return logits


def _oracle_logits(artifact: Artifact) -> Array:
    """Return what the NumPy oracle computes on the golden rows."""
    split = artifact.evaluation
    rows = len(next(iter(split.golden.values()), ()))
    if rows == 0:
        return np.empty((0, artifact.encoder.shape.labels), np.float32)
    inputs = {
        INPUT_IDS: split.input_ids[:rows],
        TOKEN_TYPE_IDS: split.token_type_ids[:rows],
        LENGTHS: split.lengths[:rows],
    }
    return execute(artifact.encoder, KERNELS, artifact.parameters, inputs)


def _same(a: Array, b: Array) -> bool:
    """Whether two arrays hold the same bits."""
    return a.shape == b.shape and np.ascontiguousarray(a).tobytes() == np.ascontiguousarray(b).tobytes()


def _same_over(groups: Sequence[Sequence[Array]]) -> bool | None:
    """Whether the arrays of each group are the same; None if no group has two."""
    pairs = [(first, other) for first, *others in groups for other in others]
    return all(_same(*pair) for pair in pairs) if pairs else None
