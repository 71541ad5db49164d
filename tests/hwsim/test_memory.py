"""Bytes are conserved from level to level, and sizes are those of the tensors."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from hwsim import memory
from hwsim.config import Accelerator, Dataflow, read_accelerator
from hwsim.workload import nonzero_weights, workload
from tests.builders import tiny_parameters, tiny_quantization, tiny_shape
from ti_qat.artifact.encoder import OpKind, build_encoder
from ti_qat.artifact.schema import ActivationScaling

ENCODER = build_encoder(tiny_shape(), tiny_quantization())
NONZERO = nonzero_weights(ENCODER, tiny_parameters(tiny_shape(), tiny_quantization()))
TOKENS = 11


def accelerator(**changes: object) -> Accelerator:
    return read_accelerator("edge").model_copy(update=changes)


def moves(**changes: object) -> tuple[memory.Traffic, ...]:
    return memory.traffic(ENCODER, workload(ENCODER, TOKENS, NONZERO), TOKENS, accelerator(**changes))


def test_streamed_weights_enter_the_chip_exactly_once() -> None:
    uses: Counter[str] = Counter()
    moved = moves(weight_buffer_bytes=128)
    for step, m in zip(workload(ENCODER, TOKENS, NONZERO)[1:], moved[1:], strict=True):
        own = [name for name in step.operation.inputs.values() if name in ENCODER.parameters]
        assert m.dram_read == sum(memory.parameter_bytes(ENCODER, name) for name in own)
        uses.update(own)
    # Only scalars (static scales, epsilon) serve several operations.
    shared = [memory.parameter_bytes(ENCODER, name) * (count - 1) for name, count in uses.items() if count > 1]
    assert all(ENCODER.parameters[name].shape == (1,) for name, count in uses.items() if count > 1)
    assert sum(m.dram_read for m in moved[1:]) == memory.stationary_bytes(ENCODER) + sum(shared)


def test_resident_weights_leave_only_the_gathered_embedding_rows() -> None:
    moved = moves(weight_buffer_bytes=1 << 20)
    words, scales, positions, types = TOKENS * 6, TOKENS * 4, TOKENS * 24 * 4, 2 * 24 * 4
    assert sum(m.dram_read for m in moved) == moved[0].dram_read == words + scales + positions + types


@pytest.mark.parametrize("buffer_bytes", [64, 1000, 3000, 4000, 1 << 20])
def test_what_spills_comes_back(buffer_bytes: int) -> None:
    moved = moves(activation_buffer_bytes=buffer_bytes, weight_buffer_bytes=1 << 20)
    gathered = moved[0].weight_buffer_write
    written = sum(m.dram_write for m in moved)
    assert sum(m.dram_read for m in moved) - gathered == written
    live = memory.live_bytes(ENCODER, TOKENS)[:-1]
    risen = sum(max(0, max(0, b - buffer_bytes) - max(0, a - buffer_bytes)) for a, b in pairwise((0, *live)))
    assert written == risen
    assert (written == 0) == (max(live) <= buffer_bytes)


@pytest.mark.parametrize("dataflow", list(Dataflow))
def test_all_that_is_read_from_the_activation_buffer_was_written(dataflow: Dataflow) -> None:
    """Each output is written once, each partial sum read back once, each input read at least once."""
    moved = moves(dataflow=dataflow, array_rows=8, array_columns=8)
    for step, m in zip(workload(ENCODER, TOKENS, NONZERO), moved, strict=True):
        op = step.operation
        outputs = sum(memory.activation_bytes(ENCODER, name, TOKENS) for name in op.outputs)
        inputs = sum(
            memory.activation_bytes(ENCODER, n, TOKENS) for n in op.inputs.values() if n in ENCODER.activations
        )
        partial_sums = m.activation_buffer_write - outputs
        assert partial_sums >= 0
        assert partial_sums == 0 or (step.gemm is not None and dataflow is not Dataflow.OUTPUT_STATIONARY)
        if op.kind is not OpKind.FIRST_TOKEN:
            assert m.activation_buffer_read - partial_sums >= inputs


def test_ternary_parameters_take_two_bits_rounded_up_to_bytes_per_row() -> None:
    assert memory.parameter_bytes(ENCODER, "layers.0.feed_forward.down.weight_codes") == 24 * 10  # 37 weights a row
    assert memory.parameter_bytes(ENCODER, "layers.0.feed_forward.down.bias") == 24 * 4


def test_peak_of_a_layer_holds_both_sides_of_the_widest_operation() -> None:
    scheme = tiny_quantization(activations=ActivationScaling.DYNAMIC_PER_TOKEN)
    wide = build_encoder(tiny_shape(layers=1, feed_forward=4096), scheme)
    live = dict(zip((op.name for op in wide.operations), memory.live_bytes(wide, TOKENS), strict=True))
    residual, ids = TOKENS * 24 * 4, 4  # and the lengths, once the embedding has read the ids
    assert live["layers.0.feed_forward.gelu"] == 2 * TOKENS * 4096 * 4 + residual
    assert live["embedding"] == TOKENS * (24 * 4 + 8) + ids
