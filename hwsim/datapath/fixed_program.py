"""Lowers an encoder to integers: the same operations, with formats as attributes and integer parameters.

Formats of wide activations are powers of two: aligning two of them, or handing one to a non-linear unit, is
then a shift instead of a multiplication, at the price of one bit of range at most. The learned int8 scales
stay the real numbers they are, inside the multipliers of the requantisers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hwsim.errors import SimulatorError
from hwsim.fixed_point import Multiplier, fixed_codes, fraction_bits_for, normalized_multiplier
from hwsim.schedule.fixed_profile import activation_bits, require_static_scales
from hwsim.units import integer_layer_norm, integer_softmax
from hwsim.widths import FixedWidths
from ti_qat.artifact.encoder import Encoder, Operation, OpKind, Tensor

Array = np.ndarray[Any, Any]

_UNIT_RANGE_KINDS = (OpKind.SOFTMAX, OpKind.TANH)  # at most 1 by definition: nothing to calibrate
_WIDEST_BITS = 60


@dataclass(frozen=True)
class FixedProgram:
    """What the integer datapath executes; `fraction_bits` gives the format of every wide activation."""

    encoder: Encoder
    parameters: Mapping[str, Array]
    fraction_bits: Mapping[str, int]


def activation_formats(encoder: Encoder, largest: Mapping[str, float], widths: FixedWidths) -> dict[str, int]:
    """Return the fraction bits of every wide activation from the largest magnitudes that calibration saw."""
    formats: dict[str, int] = {}
    for op in encoder.operations:
        if op.kind in {OpKind.QUANTIZE, OpKind.CLASSIFIER}:
            continue  # int8 codes keep their learned scale; logits leave the datapath as the sums they are
        name = op.outputs[0]
        if op.kind is OpKind.FIRST_TOKEN:
            formats[name] = formats[op.inputs["x"]]
        elif op.kind in _UNIT_RANGE_KINDS:
            formats[name] = widths.activation_bits - 2
        else:
            bits = activation_bits(op.kind, widths)
            formats[name] = fraction_bits_for(largest[name] * 2.0**widths.calibration_margin_bits, bits)
    return formats


def lower(
    source: Path | str,
    encoder: Encoder,
    parameters: Mapping[str, Array],
    largest: Mapping[str, float],
    widths: FixedWidths,
) -> FixedProgram:
    """Return the integer program of `encoder`; `largest` as from calibration.

    Raises SimulatorError, naming `source` and the operation, for what integers of these widths cannot do.
    """
    require_static_scales(source, encoder)
    lowering = _Lowering(source, encoder, parameters, activation_formats(encoder, largest, widths), widths)
    operations = tuple(lowering.lowered(op) for op in encoder.operations)
    specs = {name: Tensor(name, str(value.dtype), value.shape) for name, value in lowering.integers.items()}
    activations = {
        name: replace(spec, dtype="int32") if name in lowering.formats else spec
        for name, spec in encoder.activations.items()
    }
    integer_encoder = replace(encoder, operations=operations, parameters=specs, activations=activations)
    return FixedProgram(integer_encoder, lowering.integers, lowering.formats)


class _Lowering:
    """Turns one operation after the other into integers and collects the integer parameters."""

    def __init__(
        self,
        source: Path | str,
        encoder: Encoder,
        parameters: Mapping[str, Array],
        formats: Mapping[str, int],
        widths: FixedWidths,
    ) -> None:
        self.source, self.encoder, self.formats, self.widths = source, encoder, formats, widths
        self._real = parameters
        self.integers: dict[str, Array] = {}

    def lowered(self, op: Operation) -> Operation:
        inputs, formats = LOWERINGS[op.kind](self, op)
        return replace(op, inputs=inputs, attributes={**op.attributes, **formats})

    def real(self, op: Operation, role: str) -> Array:
        return self._real[op.inputs[role]]

    def codes(self, op: Operation, role: str) -> str:
        """Carry int8 codes over, by their own name."""
        name = op.inputs[role]
        self.integers[name] = self._real[name]
        return name

    def table(self, op: Operation, role: str, fraction_bits: int, bits: int) -> str:
        """Quantise a parameter to codes of a format."""
        name = f"{op.name}.{role}_codes"
        self.integers[name] = fixed_codes(self.real(op, role), fraction_bits, bits)
        return name

    def multiplier(self, op: Operation, make: Callable[[], Multiplier]) -> dict[str, str]:
        try:
            made = make()
        except ValueError as error:
            raise SimulatorError(
                self.source, f"fixed profile, {op.name}", expected="a multiplier", found=str(error)
            ) from error
        names = {"mantissa": f"{op.name}.mantissa", "shift": f"{op.name}.shift"}
        self.integers |= {names["mantissa"]: made.mantissa, names["shift"]: made.shift}
        return names

    def ratio(self, op: Operation, ratio: Array | float) -> dict[str, str]:
        return self.multiplier(op, lambda: normalized_multiplier(ratio, self.widths.multiplier_bits))


Lowered = tuple[dict[str, str], dict[str, int]]  # inputs by role, formats


def _embedding(lowering: _Lowering, op: Operation) -> Lowered:
    f, bits = lowering.formats[op.outputs[0]], lowering.widths.residual_bits
    tables = {f"{role}_codes": lowering.table(op, role, f, bits) for role in ("word_scale", "position", "token_type")}
    ids = {role: op.inputs[role] for role in ("input_ids", "token_type_ids")}
    return {**ids, "word_codes": lowering.codes(op, "word_codes"), **tables}, {}


def _layer_norm(lowering: _Lowering, op: Operation) -> Lowered:
    widths, output = lowering.widths, lowering.formats[op.outputs[0]]
    gamma = lowering.real(op, "gamma")
    if len(gamma) > integer_layer_norm.MAX_WIDTH:
        expected = f"rows of at most {integer_layer_norm.MAX_WIDTH} values for an exact sum of squares"
        raise SimulatorError(lowering.source, f"fixed profile, {op.name}", expected=expected, found=str(len(gamma)))
    guard = integer_layer_norm.guard_bits(widths.layer_norm_bits, widths.residual_bits)
    epsilon = integer_layer_norm.epsilon_code(
        float(lowering.real(op, "epsilon")[0]), len(gamma), lowering.formats[op.inputs["x"]], guard
    )
    name = f"{op.name}.epsilon_codes"
    lowering.integers[name] = np.array([epsilon], np.int64)
    multiplier = lowering.multiplier(
        op,
        lambda: integer_layer_norm.gamma_multiplier(gamma, output, widths.layer_norm_bits, widths.multiplier_bits),
    )
    beta = lowering.table(op, "beta", output, widths.residual_bits)
    return {"x": op.inputs["x"], **multiplier, "beta_codes": beta, "epsilon_codes": name}, {}


def _quantize(lowering: _Lowering, op: Operation) -> Lowered:
    f, scale = lowering.formats[op.inputs["x"]], float(lowering.real(op, "scale")[0])
    return {"x": op.inputs["x"], **lowering.ratio(op, 2.0**-f / scale)}, {}


def _linear(lowering: _Lowering, op: Operation) -> Lowered:
    f = lowering.formats[op.outputs[0]]
    scale = lowering.real(op, "scale").astype(np.float64) * lowering.real(op, "weight_scale")
    bias = lowering.table(op, "bias", f, lowering.widths.activation_bits)
    weights = lowering.codes(op, "weight_codes")
    multiplier = lowering.ratio(op, scale * 2.0**f)
    return {"codes": op.inputs["codes"], "weight_codes": weights, **multiplier, "bias_codes": bias}, {}


def _product(left: str, right: str, scale: Callable[[Encoder], float]) -> Callable[[_Lowering, Operation], Lowered]:
    def lowered(lowering: _Lowering, op: Operation) -> Lowered:
        f = lowering.formats[op.outputs[0]]
        real = float(lowering.real(op, f"{left}_scale")[0]) * float(lowering.real(op, f"{right}_scale")[0])
        multiplier = lowering.ratio(op, real * scale(lowering.encoder) * 2.0**f)
        return {left: op.inputs[left], right: op.inputs[right], **multiplier}, {}

    return lowered


def _softmax(lowering: _Lowering, op: Operation) -> Lowered:
    f, widths = lowering.formats[op.inputs["x"]], lowering.widths
    multiplier = lowering.multiplier(
        op, lambda: integer_softmax.base_two_multiplier(f, widths.softmax_bits, widths.multiplier_bits)
    )
    return {"x": op.inputs["x"], "lengths": op.inputs["lengths"], **multiplier}, {}


def _formats_of(*roles: str) -> Callable[[_Lowering, Operation], Lowered]:
    def lowered(lowering: _Lowering, op: Operation) -> Lowered:
        names = {"x": "input"} if len(roles) == 1 else {role: role for role in roles}
        formats = {f"{names[role]}_fraction_bits": lowering.formats[op.inputs[role]] for role in roles}
        formats["output_fraction_bits"] = lowering.formats[op.outputs[0]]
        return dict(op.inputs), formats

    return lowered


def _classifier(lowering: _Lowering, op: Operation) -> Lowered:
    bits = lowering.widths.activation_bits
    weight_format = fraction_bits_for(float(np.abs(lowering.real(op, "weight")).max()), bits)
    f = lowering.formats[op.inputs["x"]] + weight_format
    weight = lowering.table(op, "weight", weight_format, bits)
    bias = lowering.table(op, "bias", f, _WIDEST_BITS)
    return {"x": op.inputs["x"], "weight_codes": weight, "bias_codes": bias}, {"output_fraction_bits": f}


def _unchanged(_: _Lowering, op: Operation) -> Lowered:
    return dict(op.inputs), {}


LOWERINGS: Mapping[OpKind, Callable[[_Lowering, Operation], Lowered]] = {
    OpKind.EMBEDDING: _embedding,
    OpKind.LAYER_NORM: _layer_norm,
    OpKind.QUANTIZE: _quantize,
    OpKind.TERNARY_LINEAR: _linear,
    OpKind.ATTENTION_SCORES: _product("query", "key", lambda encoder: 1 / math.sqrt(encoder.shape.head_size)),
    OpKind.SOFTMAX: _softmax,
    OpKind.ATTENTION_CONTEXT: _product("probabilities", "value", lambda _: 1.0),
    OpKind.RESIDUAL_ADD: _formats_of("x", "residual"),
    OpKind.GELU: _formats_of("x"),
    OpKind.FIRST_TOKEN: _unchanged,
    OpKind.TANH: _formats_of("x"),
    OpKind.CLASSIFIER: _classifier,
}
