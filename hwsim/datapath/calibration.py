"""Calibration of the fixed profile: how large each activation grows on the first rows of a split."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np

from hwsim.datapath.batches import equal_length_batches, graph_inputs
from hwsim.datapath.exact import Datapath
from hwsim.units.accumulator import WIDEST
from ti_qat.artifact.encoder import Operation, execute
from ti_qat.artifact.io import Artifact

Array = np.ndarray[Any, Any]


def largest_magnitudes(artifact: Artifact, rows: int) -> dict[str, float]:
    """Return max |x| of every float32 activation, by name, over the first `rows` rows in the exact profile."""
    largest: dict[str, float] = defaultdict(float)

    def observe(op: Operation, _operands: Mapping[str, Array], results: tuple[Array, ...]) -> None:
        for name, values in zip(op.outputs, results, strict=True):
            if values.dtype == np.float32:
                largest[name] = max(largest[name], float(np.abs(values).max(initial=0.0)))

    split = artifact.evaluation
    for chosen in equal_length_batches(split.lengths[:rows]):
        kernels = Datapath(WIDEST).kernels  # ranges are the model's, not those of a narrow accumulator
        execute(artifact.encoder, kernels, artifact.parameters, graph_inputs(split, chosen), observe)
    return dict(largest)
