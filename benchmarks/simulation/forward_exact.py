"""The simulator's side of forward.py: an exact pass of BERT-base for every line that comes in.

`python -m benchmarks.simulation.forward_exact THREADS [activity]`
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

import numpy as np

from benchmarks.simulation.forward_side import TOKENS, Forward, answer
from hwsim.activity.findings import ActivityRun
from hwsim.config import read_accelerator
from hwsim.datapath.exact import Datapath
from hwsim.design import BERT_BASE, STATIC_SCALES
from hwsim.row_threads import row_threads
from hwsim.units.accumulator import AccumulatorRange
from ti_qat.artifact.encoder import INPUT_IDS, LENGTHS, TOKEN_TYPE_IDS, Operation, build_encoder, execute

ZERO_FRACTION = 0.4


def random_parameters() -> dict[str, np.ndarray]:
    """Return parameters of BERT-base at which activations neither vanish nor saturate."""
    rng = np.random.default_rng(0)
    nonzero = (1 - ZERO_FRACTION) / 2
    parameters: dict[str, np.ndarray] = {}
    for name, spec in build_encoder(BERT_BASE, STATIC_SCALES).parameters.items():
        if spec.ternary:
            codes = np.array([-1, 0, 1], np.int8)
            parameters[name] = rng.choice(codes, spec.shape, p=[nonzero, ZERO_FRACTION, nonzero])
        elif name == "layer_norm.epsilon":
            parameters[name] = np.array([1e-12], np.float32)
        elif name.endswith("probabilities_quantizer.scale"):
            parameters[name] = np.array([1 / 127], np.float32)
        elif name.endswith("scale"):
            parameters[name] = rng.uniform(0.02, 0.05, spec.shape).astype(np.float32)
        else:
            parameters[name] = rng.normal(name.endswith("gamma"), 0.1, spec.shape).astype(np.float32)
    return parameters


def exact_forward(threads: int, *, counted: bool) -> Forward:
    """Return the pass over one sentence of random tokens, all values of all operations.

    `counted` adds the switching activity of the `phone` preset's array.
    """
    encoder, parameters = build_encoder(BERT_BASE, STATIC_SCALES), random_parameters()
    tokens = np.random.default_rng(1).integers(0, BERT_BASE.vocabulary, (1, TOKENS)).astype(np.int32)
    inputs = {INPUT_IDS: tokens, TOKEN_TYPE_IDS: np.zeros_like(tokens), LENGTHS: np.array([TOKENS], np.int32)}
    limits, phone = AccumulatorRange.of_bits(32, wraps=False), read_accelerator("phone")

    def forward() -> object:
        datapath = Datapath(limits)
        activity = ActivityRun(encoder.operations, phone, threads) if counted else None

        def observe(op: Operation, operands: Mapping[str, np.ndarray], _: object) -> None:
            datapath.settle(op)
            if activity is not None:
                activity.observe(op, operands)

        with row_threads(threads):
            execute(encoder, datapath.kernels, parameters, inputs, observe)
        return activity.findings() if activity is not None else None

    return forward


if __name__ == "__main__":
    answer(exact_forward(int(sys.argv[1]), counted="activity" in sys.argv[2:]))
