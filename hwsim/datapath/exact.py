"""The exact profile's datapath: one kernel for every kind of operation, and a tally of overflows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from hwsim.units import embedding, gelu, int8_mac, layer_norm, quantizer, serial_mac, softmax, ternary_mac, vector
from hwsim.units.accumulator import AccumulatorRange
from ti_qat.artifact.encoder import Kernel, Operation, OpKind

Array = np.ndarray[Any, Any]


class Datapath:
    """Kernels of one run through the accelerator; give each thread its own.

    `kernels` goes to ti_qat.artifact.encoder.execute. Call `settle` from its observer, once for
    every operation: it books the overflow events of that operation in `overflows` by name. A `bit_serial`
    array computes the same values and events, bit by bit.
    """

    def __init__(self, limits: AccumulatorRange, *, bit_serial: bool = False) -> None:
        self.limits = limits
        self.overflows: Counter[str] = Counter()
        self._pending = 0
        linear: Kernel = ternary_mac.linear
        scores: Kernel = int8_mac.scores
        context: Kernel = int8_mac.context
        if bit_serial:
            linear = partial(linear, array=serial_mac.accumulate)
            scores = partial(scores, array=serial_mac.accumulate_scores)
            context = partial(context, array=serial_mac.accumulate_context)
        self.kernels: Mapping[OpKind, Kernel] = {
            OpKind.EMBEDDING: embedding.embedding,
            OpKind.LAYER_NORM: layer_norm.layer_norm,
            OpKind.QUANTIZE: quantizer.quantize,
            OpKind.QUANTIZE_PER_TOKEN: quantizer.quantize_per_token,
            OpKind.TERNARY_LINEAR: self._counted(linear),
            OpKind.ATTENTION_SCORES: self._counted(scores),
            OpKind.SOFTMAX: softmax.softmax,
            OpKind.ATTENTION_CONTEXT: self._counted(context),
            OpKind.RESIDUAL_ADD: vector.residual_add,
            OpKind.GELU: gelu.gelu,
            OpKind.FIRST_TOKEN: vector.first_token,
            OpKind.TANH: gelu.tanh,
            OpKind.CLASSIFIER: vector.classifier,
        }

    def _counted(self, array: Kernel) -> Kernel:
        def kernel(**operands: Any) -> Array:
            result: Array
            result, self._pending = array(**operands, limits=self.limits)
            return result

        return kernel

    def settle(self, operation: Operation) -> None:
        """Book the events since the last call under `operation`."""
        if self._pending:
            self.overflows[operation.name] += self._pending
            self._pending = 0
