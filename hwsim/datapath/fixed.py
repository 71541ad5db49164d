"""The fixed profile's datapath: integers from the embedding to the logits, every width a parameter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from hwsim.config import Accelerator
from hwsim.fixed_point import real_values
from hwsim.units import (
    int8_mac,
    integer_classifier,
    integer_gelu,
    integer_layer_norm,
    integer_softmax,
    integer_tanh,
    requantizer,
    residual_alignment,
    serial_mac,
    ternary_embedding,
    ternary_mac,
    vector,
)
from ti_qat.artifact.encoder import Kernel, Operation, OpKind

Array = np.ndarray[Any, Any]


class FixedDatapath:
    """Kernels of one run of a FixedProgram; give each thread its own.

    `kernels` goes to ti_qat.artifact.encoder.execute with the program's encoder and parameters. Call `settle`
    from its observer, once for every operation: it books the accumulator overflows of that operation in
    `overflows` and the values that did not fit their format in `saturations`, by name.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.limits = accelerator.accumulator_range
        serial = accelerator.bit_serial
        self._accumulate = serial_mac.accumulate if serial else ternary_mac.accumulate
        self._accumulate_scores = serial_mac.accumulate_scores if serial else int8_mac.accumulate_scores
        self._accumulate_context = serial_mac.accumulate_context if serial else int8_mac.accumulate_context
        self.widths = accelerator.fixed
        self.overflows: Counter[str] = Counter()
        self.saturations: Counter[str] = Counter()
        self._overflowed = self._saturated = 0
        widths, half_even = self.widths, self.widths.half_even
        residual = {"bits": widths.residual_bits}
        wide = {"bits": widths.activation_bits, "half_even": half_even}
        self.kernels: Mapping[OpKind, Kernel] = {
            OpKind.EMBEDDING: self._counted(ternary_embedding.gather, **residual),
            OpKind.LAYER_NORM: self._counted(
                integer_layer_norm.layer_norm, **residual, layer_norm_bits=widths.layer_norm_bits, half_even=half_even
            ),
            OpKind.QUANTIZE: self._bound(requantizer.requantize_codes, half_even=half_even),
            OpKind.TERNARY_LINEAR: self._linear,
            OpKind.ATTENTION_SCORES: self._scores,
            OpKind.SOFTMAX: self._counted(
                integer_softmax.softmax,
                method=widths.exponential,
                bits=widths.softmax_bits,
                table_entries=widths.table_entries,
                output_bits=widths.activation_bits,
                half_even=half_even,
            ),
            OpKind.ATTENTION_CONTEXT: self._context,
            OpKind.RESIDUAL_ADD: self._counted(residual_alignment.residual_add, **residual, half_even=half_even),
            OpKind.GELU: self._counted(
                integer_gelu.gelu,
                method=widths.gelu,
                gelu_bits=widths.gelu_bits,
                multiplier_bits=widths.multiplier_bits,
                table_entries=widths.table_entries,
                **wide,
            ),
            OpKind.FIRST_TOKEN: vector.first_token,
            OpKind.TANH: self._counted(
                integer_tanh.tanh, unit_bits=widths.gelu_bits, table_entries=widths.table_entries, **wide
            ),
            OpKind.CLASSIFIER: _classifier,
        }

    def settle(self, operation: Operation) -> None:
        """Book the events since the last call under `operation`."""
        if self._overflowed:
            self.overflows[operation.name] += self._overflowed
        if self._saturated:
            self.saturations[operation.name] += self._saturated
        self._overflowed = self._saturated = 0

    def _bound(self, kernel: Callable[..., Array], **settings: Any) -> Kernel:
        return lambda **operands: kernel(**operands, **settings)

    def _counted(self, kernel: Callable[..., tuple[Array, int]], **settings: Any) -> Kernel:
        def counted(**operands: Any) -> Array:
            result, self._saturated = kernel(**operands, **settings)
            return result

        return counted

    def _requantized(self, accumulators: Array, mantissa: Array, shift: Array) -> Array:
        result, self._saturated = requantizer.requantize_values(
            accumulators, mantissa, shift, bits=self.widths.activation_bits, half_even=self.widths.half_even
        )
        return result

    def _linear(self, codes: Array, weight_codes: Array, mantissa: Array, shift: Array, bias_codes: Array) -> Array:
        rows = codes.reshape(-1, codes.shape[-1])
        accumulators, self._overflowed = self._accumulate(rows, weight_codes, self.limits)
        result, self._saturated = requantizer.requantize_channels(
            accumulators,
            mantissa,
            shift,
            bias_codes,
            bits=self.widths.activation_bits,
            half_even=self.widths.half_even,
        )
        return result.reshape(*codes.shape[:-1], -1)

    def _scores(self, query: Array, key: Array, mantissa: Array, shift: Array, heads: int) -> Array:
        accumulators, self._overflowed = self._accumulate_scores(query, key, heads, self.limits)
        return self._requantized(accumulators, mantissa, shift)

    def _context(self, probabilities: Array, value: Array, mantissa: Array, shift: Array, heads: int) -> Array:
        accumulators, self._overflowed = self._accumulate_context(probabilities, value, heads, self.limits)
        return self._requantized(accumulators, mantissa, shift)


def _classifier(x: Array, weight_codes: Array, bias_codes: Array, output_fraction_bits: int) -> Array:
    """Return the logits as the host reads them: float32 of the exact integer sums."""
    sums = integer_classifier.classify(x, weight_codes, bias_codes)
    return real_values(sums, output_fraction_bits).astype(np.float32)
