"""The fixed profile over an evaluation split, each batch beside the exact profile's values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from hwsim.config import Accelerator
from hwsim.datapath.accumulator_widths import AccumulatorWidths
from hwsim.datapath.batches import graph_inputs
from hwsim.datapath.calibration import largest_magnitudes
from hwsim.datapath.comparison import QuantizationNoise
from hwsim.datapath.exact import Datapath
from hwsim.datapath.fixed import FixedDatapath
from hwsim.datapath.fixed_program import FixedProgram, lower
from hwsim.fixed_point import real_values
from hwsim.schedule.fixed_profile import require_static_scales
from ti_qat.artifact.encoder import Observer, Operation, execute
from ti_qat.artifact.evaluation import label_flips, largest_difference, predictions, score
from ti_qat.artifact.io import Artifact

Array = np.ndarray[Any, Any]


class FixedFindings(BaseModel):
    """What integers cost against the exact profile on the same rows.

    `label_flips` (None for a regression): rows with another label than the exact profile's. A figure of dB
    is None where the two are equal. `needed_accumulator_bits`: smallest width without an overflow, by product.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    calibration_rows: int
    exact_score: float
    score_loss_points: float
    label_flips: int | None
    logits_max_abs_difference: float
    signal_to_noise_db: dict[str, float | None]
    fraction_bits: dict[str, int]
    saturated_values: int
    saturated_values_by_operation: dict[str, int]
    needed_accumulator_bits: dict[str, int]


@dataclass
class FixedRun:
    """The program of an artifact on an accelerator, and what its batches have found so far."""

    artifact: Artifact
    accelerator: Accelerator
    program: FixedProgram
    exact_logits: Array
    widths: AccumulatorWidths
    noise: QuantizationNoise = field(default_factory=QuantizationNoise)
    saturations: Counter[str] = field(default_factory=Counter)
    _lock: Lock = field(default_factory=Lock)

    @classmethod
    def prepare(cls, artifact: Artifact, accelerator: Accelerator, rows: int) -> FixedRun:
        """Calibrate on the first rows, whatever `rows` are simulated, and lower. Raises SimulatorError."""
        widths = accelerator.fixed
        require_static_scales(artifact.path, artifact.encoder)  # before any time goes into calibration
        calibration_rows = min(widths.calibration_rows, artifact.evaluation.rows)
        largest = largest_magnitudes(artifact, calibration_rows)
        program = lower(artifact.path, artifact.encoder, artifact.parameters, largest, widths)
        logits = np.empty((rows, artifact.encoder.shape.labels), np.float32)
        return cls(artifact, accelerator, program, logits, AccumulatorWidths(program.encoder, program.parameters))

    def run_batch(self, chosen: Array, observe: Observer) -> tuple[Array, Counter[str]]:
        """Return (logits, overflows by operation) of rows of one length.

        `observe` sees the artifact's own operations with real values in place of wide codes.
        """
        inputs = graph_inputs(self.artifact.evaluation, chosen)
        exact = self._exact_activations(chosen, inputs)
        datapath = FixedDatapath(self.accelerator)

        def watch(op: Operation, operands: Mapping[str, Array], results: tuple[Array, ...]) -> None:
            datapath.settle(op)
            self.widths.observe(op, operands)
            name, values = op.outputs[0], results[0]
            if name in self.program.fraction_bits:
                values = real_values(values, self.program.fraction_bits[name])
            if name in exact:
                self.noise.add(op.name, exact.pop(name), values)
            observe(op, operands, (values,))

        logits = execute(self.program.encoder, datapath.kernels, self.program.parameters, inputs, watch)
        with self._lock:
            self.saturations.update(datapath.saturations)
        return logits, datapath.overflows

    def _exact_activations(self, chosen: Array, inputs: Mapping[str, Array]) -> dict[str, Array]:
        seen: dict[str, Array] = {}

        def remember(op: Operation, _: Mapping[str, Array], results: tuple[Array, ...]) -> None:
            if results[0].dtype == np.float32:
                seen[op.outputs[0]] = results[0]

        datapath = Datapath(self.accelerator.accumulator_range, bit_serial=self.accelerator.bit_serial)
        self.exact_logits[chosen] = execute(
            self.artifact.encoder, datapath.kernels, self.artifact.parameters, inputs, remember
        )
        return seen

    def findings(self, logits: Array) -> FixedFindings:
        """Return what the batches found; `logits` (R, labels) are those of the fixed profile."""
        metric, labels = self.artifact.header.task.metric, self.artifact.evaluation.labels[: len(logits)]
        exact_score = score(metric, labels, predictions(metric, self.exact_logits))
        decibels = self.noise.decibels
        return FixedFindings(
            calibration_rows=min(self.accelerator.fixed.calibration_rows, self.artifact.evaluation.rows),
            exact_score=exact_score,
            score_loss_points=100.0 * (exact_score - score(metric, labels, predictions(metric, logits))),
            label_flips=label_flips(metric, logits, self.exact_logits),
            logits_max_abs_difference=largest_difference(logits, self.exact_logits),
            signal_to_noise_db={
                op.name: decibels[op.name] for op in self.program.encoder.operations if op.name in decibels
            },
            fraction_bits=dict(self.program.fraction_bits),
            saturated_values=self.saturations.total(),
            saturated_values_by_operation=dict(sorted(self.saturations.items())),
            needed_accumulator_bits=self.widths.needed_bits,
        )
