"""A simulation against the few golden rows whose hidden states travel with an artifact."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from hwsim.datapath.comparison import Divergence, QuantizationNoise
from ti_qat.artifact.evaluation import label_agreement, largest_difference
from ti_qat.artifact.io import Artifact

Array = np.ndarray[Any, Any]


class GoldenAgreement(BaseModel):
    """Distance from what the producer's own model computed on the `rows` golden rows.

    The producer adds up in another order, so hidden states agree in part: `signal_to_noise_db` by hidden state, in
    their order (None where equal), and `farthest`, the one value that is farthest off, (row, token, feature).
    `label_agreement` is None for a regression.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int
    hidden_state_max_abs_difference: dict[str, float]
    signal_to_noise_db: dict[str, float | None]
    farthest: Divergence | None
    logits_max_abs_difference: float
    label_agreement: float | None


def golden_agreement(artifact: Artifact, hidden: Mapping[str, Array], logits: Array) -> GoldenAgreement | None:
    """Compare hidden states by name, float32 (G, T, H), and logits (R, labels), R >= G; None if there are none."""
    split = artifact.evaluation
    rows = len(next(iter(hidden.values()), ()))
    if rows == 0:
        return None
    found, expected = logits[:rows], split.logits[:rows]
    valid = (np.arange(split.input_ids.shape[1]) < split.lengths[:rows, None])[..., None]
    noise = QuantizationNoise()
    largest: dict[str, float] = {}
    farthest: Divergence | None = None
    for name, states in hidden.items():
        golden = split.golden[name][:rows]
        distance = np.where(valid, np.abs(states - golden), np.float32(0))
        noise.add(name, np.where(valid, golden, 0), np.where(valid, states, 0))
        if distance.max() > max(largest.values(), default=0.0):
            index = tuple(int(i) for i in np.unravel_index(int(distance.argmax()), distance.shape))
            operation = name.removesuffix(".output")
            different = int(np.count_nonzero(distance))
            farthest = Divergence(operation, name, index, golden[index].item(), states[index].item(), different)
        largest[name] = float(distance.max())
    return GoldenAgreement(
        rows=rows,
        hidden_state_max_abs_difference=largest,
        signal_to_noise_db=noise.decibels,
        farthest=farthest,
        logits_max_abs_difference=largest_difference(found, expected),
        label_agreement=label_agreement(artifact.header.task.metric, found, expected),
    )
