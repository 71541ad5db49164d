"""The simulator's kernels against the NumPy oracle on whole rows: which value parts first, where they are not equal."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from pydantic import BaseModel, ConfigDict

from hwsim.datapath.batches import graph_inputs
from hwsim.datapath.comparison import Divergence, Run, first_divergent_operation
from hwsim.datapath.exact import Datapath
from hwsim.units.accumulator import WIDEST
from ti_qat.artifact import reference
from ti_qat.artifact.io import Artifact


class OracleCheck(BaseModel):
    """Rows that were run through both; `divergence` is the first value that differs in a bit, in row `row`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int
    row: int | None = None
    divergence: Divergence | None = None

    def __str__(self) -> str:
        if self.divergence is None:
            return f"every value of every operation has the oracle's bits on {self.rows} rows"
        return f"row {self.row} is not the oracle's: {self.divergence.told('oracle', 'simulator')}"


def check_against_oracle(artifact: Artifact, rows: int, on_progress: Callable[[int], None]) -> OracleCheck:
    """Run the first `rows` rows through ti_qat.artifact.reference and the exact profile; stop at a difference.

    With accumulators of 32 bits: the oracle's never overflow.
    """
    oracle = Run(reference.KERNELS, artifact.parameters)
    for row in range(rows):
        simulator = Run(Datapath(WIDEST).kernels, artifact.parameters)
        inputs = graph_inputs(artifact.evaluation, np.array([row]))
        divergence = first_divergent_operation(artifact.encoder, inputs, oracle, simulator)
        on_progress(1)
        if divergence is not None:
            return OracleCheck(rows=row + 1, row=row, divergence=divergence)
    return OracleCheck(rows=rows)
