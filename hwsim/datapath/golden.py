"""A simulation against the few golden rows whose hidden states travel with an artifact."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from ti_qat.artifact.evaluation import label_agreement, largest_difference
from ti_qat.artifact.io import Artifact

Array = np.ndarray[Any, Any]


class GoldenAgreement(BaseModel):
    """Distance from what the producer's own model computed on the `rows` golden rows.

    `label_agreement` is None for a regression.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int
    hidden_state_max_abs_difference: dict[str, float]
    logits_max_abs_difference: float
    label_agreement: float | None


def golden_agreement(artifact: Artifact, hidden: Mapping[str, Array], logits: Array) -> GoldenAgreement | None:
    """Compare hidden states by name, float32 (G, T, H), and logits (R, labels), R >= G; None if there are none."""
    split = artifact.evaluation
    rows = len(next(iter(hidden.values()), ()))
    if rows == 0:
        return None
    found, expected = logits[:rows], split.logits[:rows]
    valid = np.arange(split.input_ids.shape[1]) < split.lengths[:rows, None]
    differences = {
        name: float(np.max(np.abs(states - split.golden[name][:rows])[valid], initial=0.0))
        for name, states in hidden.items()
    }
    return GoldenAgreement(
        rows=rows,
        hidden_state_max_abs_difference=differences,
        logits_max_abs_difference=largest_difference(found, expected),
        label_agreement=label_agreement(artifact.header.task.metric, found, expected),
    )
