"""What can be upset: where its bits are, and kernels that compute with the flips of each row in place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import ceil, prod
from typing import Any, Protocol

import numpy as np

from hwsim.datapath.exact import Datapath
from hwsim.faults.flips import WordUpsets
from hwsim.schedule.workload import activation_shape
from hwsim.units import int8_mac, ternary_mac
from hwsim.units.accumulator import AccumulatorRange
from ti_qat.artifact.encoder import Encoder, Kernel, Operation, OpKind
from ti_qat.artifact.packing import BITS_PER_CODE, CODES_PER_BYTE, FIELD_MASK, ZERO_FIELD, pack_ternary, packed_width

Array = np.ndarray[Any, Any]
Effect = Any  # of the flips in one operation of one inference; each target has its own

# A processing element skips where the low bit is set and else adds or subtracts by the high one, so that the
# field 0b11, which is never written, is read as 0.
DECODED_FIELDS = np.array([-1, 0, 1, 0], np.int8)
_ZERO_CODES = sum(ZERO_FIELD << (BITS_PER_CODE * place) for place in range(CODES_PER_BYTE))  # four codes 0 in a byte
_FIELD_SHIFTS = np.arange(0, 8, BITS_PER_CODE, dtype=np.uint8)


class TargetName(StrEnum):
    """What is upset."""

    WEIGHTS = "weights"
    ACCUMULATORS = "accumulators"
    ACTIVATIONS = "activations"


class Target(Protocol):
    """Bits that can flip, in words of `data_bits`, of the operations of some `kinds`."""

    data_bits: int
    kinds: frozenset[OpKind]

    def words(self, op: Operation, tokens: int) -> int:
        """Return the words of one operation in one inference of `tokens` tokens."""

    def effect(self, op: Operation, upsets: WordUpsets) -> Effect | None:
        """Return what upset words change in the operation, or None where that is nothing."""

    def kernels(self, effects: Sequence[Mapping[int, Effect]]) -> Mapping[OpKind, Kernel]:
        """Return kernels for a batch, one item of `effects` a row, by number of operation.

        They take that number as an argument `operation` more.
        """


def numbered(encoder: Encoder, kinds: frozenset[OpKind]) -> Encoder:
    """Return `encoder` with operations of `kinds` that tell their kernel their number."""
    operations = tuple(
        replace(op, attributes={**op.attributes, "operation": number}) if op.kind in kinds else op
        for number, op in enumerate(encoder.operations)
    )
    return replace(encoder, operations=operations)


def upset_bytes(stored: Array, upsets: WordUpsets, word_bytes: int, zero: int) -> tuple[Array, Array]:
    """Return (places, bytes as they are read) of upset words of `stored`, uint8 (B,); `zero` is a byte of zeros.

    Word i holds bytes i * word_bytes and on, the first in its lowest bits; what lies beyond B fills the last word.
    """
    lanes = np.arange(word_bytes)
    places = upsets.words[:, None] * word_bytes + lanes
    flips = (upsets.flips[:, None] >> (8 * lanes).astype(np.uint64)).astype(np.uint8)
    inside = places < len(stored)
    zeroed = np.broadcast_to(upsets.zeroed[:, None], places.shape)[inside]
    places = places[inside]
    return places, np.where(zeroed, np.uint8(zero), stored[places] ^ flips[inside])


def _hit(effects: Sequence[Mapping[int, Effect]], operation: int) -> Iterator[tuple[int, Effect]]:
    """Yield (row of the batch, effect) where there is one in `operation`."""
    yield from ((row, of_row[operation]) for row, of_row in enumerate(effects) if operation in of_row)


@dataclass(frozen=True)
class WeightChanges:
    """Codes that a ternary linear reads with another value: channels (C,), inputs (C,), codes int8 (C,)."""

    channels: Array
    inputs: Array
    codes: Array


class WeightTarget:
    """The 2-bit codes of the ternary linears in the weight SRAM, row after row as packing has them (Target)."""

    kinds = frozenset({OpKind.TERNARY_LINEAR})

    def __init__(
        self, encoder: Encoder, parameters: Mapping[str, Array], limits: AccumulatorRange, word_bits: int
    ) -> None:
        self.data_bits, self._limits = word_bits, limits
        self._codes = {op.name: parameters[op.inputs["weight_codes"]] for op in encoder.of_kind(OpKind.TERNARY_LINEAR)}
        self._packed = {name: pack_ternary(codes).reshape(-1) for name, codes in self._codes.items()}

    def words(self, op: Operation, tokens: int) -> int:
        """Return the words of a matrix, whatever the sentence; the last one is filled up."""
        return ceil(8 * len(self._packed[op.name]) / self.data_bits)

    def effect(self, op: Operation, upsets: WordUpsets) -> WeightChanges | None:
        """Return the codes that are read as others; a flip may leave a code as it was, or hit padding."""
        codes = self._codes[op.name]
        row_bytes = packed_width(codes.shape[1])
        places, found = upset_bytes(self._packed[op.name], upsets, self.data_bits // 8, _ZERO_CODES)
        read = DECODED_FIELDS[(found[:, None] >> _FIELD_SHIFTS) & FIELD_MASK]
        inputs = (places % row_bytes * CODES_PER_BYTE)[:, None] + np.arange(CODES_PER_BYTE)
        channels = np.broadcast_to((places // row_bytes)[:, None], inputs.shape)
        real = inputs < codes.shape[1]
        channels, inputs, read = channels[real], inputs[real], read[real]
        other = codes[channels, inputs] != read
        return WeightChanges(channels[other], inputs[other], read[other]) if other.any() else None

    def kernels(self, effects: Sequence[Mapping[int, WeightChanges]]) -> Mapping[OpKind, Kernel]:
        """Return a linear that computes the changed channels of each row again."""
        plain = Datapath(self._limits).kernels[OpKind.TERNARY_LINEAR]

        def linear(
            codes: Array, scale: Array, weight_codes: Array, weight_scale: Array, bias: Array, operation: int
        ) -> Array:
            out: Array = plain(
                codes=codes, scale=scale, weight_codes=weight_codes, weight_scale=weight_scale, bias=bias
            )
            for row, changes in _hit(effects, operation):
                channels, position = np.unique(changes.channels, return_inverse=True)
                weights = weight_codes[channels]
                weights[position, changes.inputs] = changes.codes
                out[row][..., channels] = plain(
                    codes=codes[row : row + 1],
                    scale=scale if scale.ndim == 1 else scale[row : row + 1],
                    weight_codes=weights,
                    weight_scale=weight_scale[channels] if len(weight_scale) > 1 else weight_scale,
                    bias=bias[channels],
                )[0]
            return out

        return {OpKind.TERNARY_LINEAR: linear}


class AccumulatorTarget:
    """The accumulators of the array: every bit of every result, after its last addition (Target).

    A word is one accumulator, in two's complement.
    """

    kinds = frozenset({OpKind.TERNARY_LINEAR, OpKind.ATTENTION_SCORES, OpKind.ATTENTION_CONTEXT})

    def __init__(self, encoder: Encoder, limits: AccumulatorRange, bits: int) -> None:
        self._encoder, self._limits, self.data_bits = encoder, limits, bits

    def words(self, op: Operation, tokens: int) -> int:
        """Return the results of a matrix product."""
        return prod(activation_shape(self._encoder, op.outputs[0], tokens))

    def effect(self, op: Operation, upsets: WordUpsets) -> WordUpsets:
        """Return the upsets: each gives another result."""
        return upsets

    def kernels(self, effects: Sequence[Mapping[int, WordUpsets]]) -> Mapping[OpKind, Kernel]:
        """Return the products, their accumulators upset before the output stage reads them."""

        def upset(unit: Kernel, array: Kernel) -> Kernel:
            def kernel(operation: int, **operands: Any) -> Array:
                def upset_array(*array_operands: Any) -> tuple[Array, int]:
                    accumulators, events = array(*array_operands)
                    rows = accumulators.reshape(len(effects), -1)
                    for row, found in _hit(effects, operation):
                        rows[row, found.words] = self._read(rows[row, found.words], found)
                    return accumulators, events

                result: Array = unit(**operands, limits=self._limits, array=upset_array)[0]
                return result

            return kernel

        return {
            OpKind.TERNARY_LINEAR: upset(ternary_mac.linear, ternary_mac.accumulate),
            OpKind.ATTENTION_SCORES: upset(int8_mac.scores, int8_mac.accumulate_scores),
            OpKind.ATTENTION_CONTEXT: upset(int8_mac.context, int8_mac.accumulate_context),
        }

    def _read(self, accumulators: Array, upsets: WordUpsets) -> Array:
        stored = accumulators.astype(np.int64) ^ upsets.flips.astype(np.int64)
        sign = 1 << (self.data_bits - 1)
        extended = ((stored & (2 * sign - 1)) ^ sign) - sign
        return np.where(upsets.zeroed, 0, extended).astype(np.int32)


class ActivationTarget:
    """The int8 codes that quantisers write to the activation SRAM, a tensor after the other (Target)."""

    kinds = frozenset({OpKind.QUANTIZE, OpKind.QUANTIZE_PER_TOKEN})

    def __init__(self, encoder: Encoder, limits: AccumulatorRange, word_bits: int) -> None:
        self._encoder, self._limits, self.data_bits = encoder, limits, word_bits

    def words(self, op: Operation, tokens: int) -> int:
        """Return the words of a sentence's codes; the last one is filled up."""
        return ceil(8 * prod(activation_shape(self._encoder, op.outputs[0], tokens)) / self.data_bits)

    def effect(self, op: Operation, upsets: WordUpsets) -> WordUpsets:
        """Return the upsets; each is read."""
        return upsets

    def kernels(self, effects: Sequence[Mapping[int, WordUpsets]]) -> Mapping[OpKind, Kernel]:
        """Return quantisers whose codes are read with the flips of their row."""
        plain = Datapath(self._limits).kernels

        def upset(unit: Kernel) -> Kernel:
            def kernel(operation: int, **operands: Any) -> Any:
                result = unit(**operands)
                codes = result[0] if isinstance(result, tuple) else result
                rows = codes.reshape(len(codes), -1).view(np.uint8)
                for row, found in _hit(effects, operation):
                    places, read = upset_bytes(rows[row], found, self.data_bits // 8, 0)
                    rows[row, places] = read
                return result

            return kernel

        return {kind: upset(plain[kind]) for kind in self.kinds}
