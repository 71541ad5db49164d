"""Actions of the fixed profile's units, by kind of operation, in the shape that hwsim.schedule.workload counts in."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from math import prod

from hwsim.config import Accelerator
from hwsim.energy import prices as energy
from hwsim.schedule.workload import activation_shape
from hwsim.units import (
    integer_classifier,
    integer_gelu,
    integer_layer_norm,
    integer_softmax,
    integer_tanh,
    requantizer,
    residual_alignment,
    ternary_embedding,
)
from hwsim.units.actions import Actions, total
from hwsim.widths import FixedWidths
from ti_qat.artifact.encoder import Encoder, OpKind

# From output rows, output width, input width and the widths; of a matrix product: its output stage alone, since
# the array's additions and multiplications are those of the exact profile.
FIXED_ACTIONS: Mapping[OpKind, Callable[[int, int, int, FixedWidths], Actions]] = {
    OpKind.EMBEDDING: lambda rows, width, _, __: ternary_embedding.actions(rows * width),
    OpKind.LAYER_NORM: lambda rows, width, _, __: integer_layer_norm.actions(rows, width),
    OpKind.QUANTIZE: lambda rows, width, _, __: requantizer.actions(rows * width, biased=False),
    OpKind.TERNARY_LINEAR: lambda rows, width, _, __: requantizer.actions(rows * width, biased=True),
    OpKind.ATTENTION_SCORES: lambda rows, width, _, __: requantizer.actions(rows * width, biased=False),
    OpKind.SOFTMAX: lambda rows, width, _, widths: integer_softmax.actions(rows, width, widths.exponential),
    OpKind.ATTENTION_CONTEXT: lambda rows, width, _, __: requantizer.actions(rows * width, biased=False),
    OpKind.RESIDUAL_ADD: lambda rows, width, _, __: residual_alignment.actions(rows * width),
    OpKind.GELU: lambda rows, width, _, widths: integer_gelu.actions(rows * width, widths.gelu),
    OpKind.FIRST_TOKEN: lambda rows, width, _, __: total(),
    OpKind.TANH: lambda rows, width, _, __: integer_tanh.actions(rows * width),
    OpKind.CLASSIFIER: lambda _, width, inputs, __: integer_classifier.actions(inputs, width),
}


def integer_unit_energy_pj(encoder: Encoder, accelerator: Accelerator, lengths: Iterable[int]) -> dict[str, float]:
    """Return picojoules of an average inference in the integer units, by kind of operation, arrays left out.

    `encoder` is the artifact's own; `lengths` the tokens of its sentences. Raises SimulatorError where a price
    is missing.
    """
    price = energy.prices(accelerator)
    histogram = Counter(int(length) for length in lengths)
    spent: dict[str, float] = defaultdict(float)
    for tokens, sentences in histogram.items():
        for op in encoder.operations:
            output = activation_shape(encoder, op.outputs[0], tokens)
            inputs = activation_shape(encoder, next(iter(op.inputs.values())), tokens)[-1]
            actions = FIXED_ACTIONS[op.kind](prod(output[:-1]), output[-1], inputs, accelerator.fixed)
            spent[op.kind.value] += sentences * sum(count * price[action].pj for action, count in actions.items())
    return {kind: picojoules / histogram.total() for kind, picojoules in sorted(spent.items())}
