"""What a campaign of upsets found: upsets.json, and upsets.csv with a line a run."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from itertools import groupby
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from hwsim.faults.plan import RunKey
from hwsim.faults.targets import TargetName
from hwsim.faults.word_codes import Gates, OnDetection, Protection

ASSUMPTIONS = (
    "Every stored bit, check bits included, flips on its own and with the same probability; a particle that upsets "
    "neighbours is not modelled.",
    "A flip lasts for one inference: weights are written anew before the next.",
    "Weights are upset before the first read of an inference, and every read of a word returns the same.",
    "Activations are upset once, between the write of a tensor and its reads; the int8 codes only, no float32 value.",
    "An accumulator is upset once, after its last addition, and protected there; partial sums that spill are not.",
    "The embedding tables stay in DRAM and are not upset; nor are scales, biases, norms, pipeline registers, control.",
    "Encoders and decoders do not fail themselves, and take no cycle.",
    "A flip may give the code -128, which no quantiser writes; the array computes with it. Where 127 K fits the "
    "accumulator and 128 K does not, such a sum is not cut.",
)


class UpsetRun(BaseModel):
    """All rows once, under one protection, rate and seed.

    `label_flips` (None for a regression): rows with another label than without faults. `reached_rows`: rows in
    which the datapath read a flip. `silent_words` were read with other data and no alarm.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    protection: Protection
    rate: float
    seed: int
    score: float
    label_flips: int | None
    reached_rows: int
    flipped_bits: int
    corrected_words: int
    detected_words: int
    silent_words: int

    @property
    def key(self) -> RunKey:
        """What tells it from the other runs of a campaign."""
        return self.protection, self.rate, self.seed


class UpsetCurve(BaseModel):
    """Points of one protection by rising rate, over its seeds: for a chart of score or label flips against rate.

    A deviation is the sample's, and 0 for a single seed; label flips are None for a regression.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    protection: Protection
    rates: tuple[float, ...]
    score_mean: tuple[float, ...]
    score_std: tuple[float, ...]
    label_flips_mean: tuple[float, ...] | None
    label_flips_std: tuple[float, ...] | None


class Overhead(BaseModel):
    """What a protection costs: bits of an average inference, and gates of one encoder and one decoder.

    Area of the memory and energy of its accesses grow by `stored_bits_factor` at least.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    protection: Protection
    word_data_bits: int
    word_check_bits: int
    data_bits_per_inference: float
    check_bits_per_inference: float
    stored_bits_factor: float
    gates: Gates


class Upsets(BaseModel):
    """The content of upsets.json; only `peak_rss_bytes` differs between two campaigns of the same input."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    artifact_digest: str
    accelerator: str
    target: TargetName
    on_detection: OnDetection
    rows: int
    seeds: tuple[int, ...]
    metric: str
    fault_free_score: float
    overheads: tuple[Overhead, ...]
    curves: tuple[UpsetCurve, ...]
    runs: tuple[UpsetRun, ...]
    assumptions: tuple[str, ...] = ASSUMPTIONS
    peak_rss_bytes: int


def curves_of(runs: Sequence[UpsetRun]) -> tuple[UpsetCurve, ...]:
    """Return a curve for each protection of `runs`, in their order."""
    order = {protection: number for number, protection in enumerate(dict.fromkeys(run.protection for run in runs))}
    ordered = sorted(runs, key=lambda run: (order[run.protection], run.rate))
    return tuple(_curve(protection, list(of)) for protection, of in groupby(ordered, lambda run: run.protection))


def _curve(protection: Protection, runs: Sequence[UpsetRun]) -> UpsetCurve:
    points = [list(of) for _, of in groupby(runs, lambda run: run.rate)]
    scores = [[run.score for run in of] for of in points]
    flips = [[run.label_flips for run in of if run.label_flips is not None] for of in points]
    return UpsetCurve(
        protection=protection,
        rates=tuple(of[0].rate for of in points),
        score_mean=tuple(map(_mean, scores)),
        score_std=tuple(map(_deviation, scores)),
        label_flips_mean=tuple(map(_mean, flips)) if all(flips) else None,
        label_flips_std=tuple(map(_deviation, flips)) if all(flips) else None,
    )


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _deviation(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def runs_csv(runs: Sequence[UpsetRun]) -> str:
    """Return a header and a line for each run."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(UpsetRun.model_fields), lineterminator="\n")
    writer.writeheader()
    writer.writerows(run.model_dump(mode="json") for run in runs)
    return text.getvalue()
