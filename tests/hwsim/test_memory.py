"""Bytes are conserved from level to level, and sizes are those of the tensors."""

from __future__ import annotations

from collections import Counter

import pytest

from hwsim.config import Accelerator, Dataflow, read_accelerator
from hwsim.estimate import estimate
from hwsim.schedule import memory, placement
from hwsim.schedule.execution import Inference, PlannedOperation, plan_inference
from hwsim.schedule.placement import Placement
from hwsim.schedule.workload import nonzero_weights, workload
from tests.builders import tiny_parameters, tiny_quantization, tiny_shape
from tests.hwsim.tiles import unrolled
from ti_qat.artifact.encoder import OpKind, build_encoder
from ti_qat.artifact.schema import ActivationScaling

ENCODER = build_encoder(tiny_shape(), tiny_quantization())
NONZERO = nonzero_weights(ENCODER, tiny_parameters(tiny_shape(), tiny_quantization()))
TOKENS = 11


def accelerator(**changes: object) -> Accelerator:
    return read_accelerator("wearable").model_copy(update=changes)


def planned(**changes: object) -> tuple[tuple[PlannedOperation, ...], Placement]:
    return plan_inference(Inference.of(ENCODER, TOKENS, NONZERO), accelerator(**changes))


def moves(**changes: object) -> tuple[memory.Traffic, ...]:
    return tuple(operation.moved for operation in planned(**changes)[0])


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


def test_weights_stay_if_they_fit_to_the_byte() -> None:
    needed = memory.stationary_bytes(ENCODER)
    fits, short = (moves(weight_buffer_bytes=size) for size in (needed, needed - 1))
    words, scales, positions, types = TOKENS * 6, TOKENS * 4, TOKENS * 24 * 4, 2 * 24 * 4
    assert sum(m.dram_read for m in fits) == fits[0].dram_read == words + scales + positions + types
    assert sum(m.dram_read for m in short) >= fits[0].dram_read + needed


@pytest.mark.parametrize("dataflow", list(Dataflow))
@pytest.mark.parametrize("buffer_bytes", [64, 1000, 3000, 4000, 1 << 20])
def test_what_is_read_from_dram_was_written_there(dataflow: Dataflow, buffer_bytes: int) -> None:
    operations, placed = planned(activation_buffer_bytes=buffer_bytes, weight_buffer_bytes=1 << 20, dataflow=dataflow)
    made = Counter(placed.in_dram)
    assert (not made) == (max(placement.live_bytes(ENCODER, TOKENS)) <= buffer_bytes)
    assert made.total() == sum(operation.moved.dram_write for operation in operations)
    for operation in operations[1:]:
        op = operation.work.operation
        used = [placed.in_dram.get(name, 0) for name in op.inputs.values()]
        read = operation.moved.dram_read
        if op.kind is OpKind.FIRST_TOKEN:
            assert read <= sum(used)
        elif operation.work.gemm is None:
            assert read == sum(used)
        else:  # a product may pass over its inputs several times
            assert read >= sum(used)
            assert (read > 0) == (sum(used) > 0)


@pytest.mark.parametrize("dataflow", list(Dataflow))
@pytest.mark.parametrize("buffer_bytes", [64, 700, 3000, 1 << 20])
@pytest.mark.parametrize("weight_buffer_bytes", [128, 1 << 20])
def test_dram_traffic_is_the_sum_of_the_tiles(dataflow: Dataflow, buffer_bytes: int, weight_buffer_bytes: int) -> None:
    operations, _ = planned(
        activation_buffer_bytes=buffer_bytes, weight_buffer_bytes=weight_buffer_bytes, dataflow=dataflow
    )
    for operation in operations:
        tiles = list(unrolled(operation.body))
        moved = operation.moved
        assert moved.dram_read == sum(tile.weight_bytes + tile.input_bytes for tile in tiles)
        assert moved.dram_write == sum(tile.output_bytes for tile in tiles)
        assert moved.weight_buffer_write == sum(tile.weight_bytes for tile in tiles)
        assert all(tile.occupied_cycles >= tile.compute_cycles >= 0 for tile in tiles)


@pytest.mark.parametrize("dataflow", list(Dataflow))
def test_all_that_is_read_from_the_activation_buffer_was_written(dataflow: Dataflow) -> None:
    """Each output is written once, each partial sum read back once, each input read at least once."""
    moved = moves(dataflow=dataflow, array_rows=8, array_columns=8)
    for step, m in zip(workload(ENCODER, TOKENS, NONZERO), moved, strict=True):
        op = step.operation
        outputs = sum(placement.activation_bytes(ENCODER, name, TOKENS) for name in op.outputs)
        inputs = sum(
            placement.activation_bytes(ENCODER, n, TOKENS) for n in op.inputs.values() if n in ENCODER.activations
        )
        partial_sums = m.activation_buffer_write - outputs
        assert partial_sums >= 0
        assert partial_sums == 0 or (step.gemm is not None and dataflow is not Dataflow.OUTPUT_STATIONARY)
        if op.kind is not OpKind.FIRST_TOKEN:
            assert m.activation_buffer_read - partial_sums >= inputs


@pytest.mark.parametrize("buffer_bytes", [700, 1000, 3000, 4000, 1 << 20])
def test_the_plan_keeps_to_the_activation_buffer(buffer_bytes: int) -> None:
    operations, placed = planned(activation_buffer_bytes=buffer_bytes)
    assert max(placed.in_buffer) <= buffer_bytes
    live = placement.live_bytes(ENCODER, TOKENS)
    for index in range(len(operations)):
        alive = [name for name, used in placement.lives(ENCODER).items() if used[0] <= index <= used[-1]]
        spilled = sum(placed.in_dram.get(name, 0) for name in alive)
        assert placed.in_buffer[index] >= live[index] - spilled
    assert all(bytes_ <= placement.activation_bytes(ENCODER, name, TOKENS) for name, bytes_ in placed.in_dram.items())


@pytest.mark.parametrize("preset", ["wearable", "phone"])
@pytest.mark.parametrize("buffer_bytes", [700, 1 << 20])
def test_levels_hold_every_parameter_once_and_peaks_fit(preset: str, buffer_bytes: int) -> None:
    machine = read_accelerator(preset).model_copy(
        update={"activation_buffer_bytes": buffer_bytes, "weight_buffer_bytes": 1 << 10}
    )
    held = estimate(ENCODER, machine, [3, TOKENS], NONZERO).memory
    assert sum(sum(level.values()) for level in held.resident_bytes.values()) == held.parameter_bytes
    assert sum(held.peak_bytes["weight_buffer"].values()) <= machine.weight_buffer_bytes
    assert sum(held.peak_bytes["activation_buffer"].values()) <= machine.activation_buffer_bytes
    assert set(held.spilled_activations) <= set(ENCODER.activations)
    assert held.activations_fit == (not held.spilled_activations)
    assert sum(held.streamed_parameters.values()) == memory.stationary_bytes(ENCODER) * (not held.weights_resident)


def test_formats_are_two_bits_five_trits_a_byte_and_int8() -> None:
    formats = estimate(ENCODER, accelerator(), [TOKENS], NONZERO).memory.formats
    widths = [ENCODER.parameters[op.inputs["weight_codes"]].shape for op in ENCODER.of_kind(OpKind.TERNARY_LINEAR)]
    scales = 4 * sum(int(n) for n, _ in widths)
    assert formats["2"].ternary_linear_bytes == scales + sum(int(n) * -(-int(k) // 4) for n, k in widths)
    assert formats["1.6"].ternary_linear_bytes == scales + sum(int(n) * -(-int(k) // 5) for n, k in widths)
    assert formats["8"].ternary_linear_bytes == scales + sum(int(n) * int(k) for n, k in widths)
    needed = formats["1.6"].weight_buffer_bytes_needed
    for size, fits in ((needed, True), (needed - 1, False)):
        found = estimate(ENCODER, accelerator(weight_buffer_bytes=size), [TOKENS], NONZERO).memory.formats
        assert found["1.6"].weights_fit is fits


def test_ternary_parameters_take_two_bits_rounded_up_to_bytes_per_row() -> None:
    assert memory.parameter_bytes(ENCODER, "layers.0.feed_forward.down.weight_codes") == 24 * 10  # 37 weights a row
    assert memory.parameter_bytes(ENCODER, "layers.0.feed_forward.down.bias") == 24 * 4


def test_peak_of_a_layer_holds_both_sides_of_the_widest_operation() -> None:
    scheme = tiny_quantization(activations=ActivationScaling.DYNAMIC_PER_TOKEN)
    wide = build_encoder(tiny_shape(layers=1, feed_forward=4096), scheme)
    live = dict(zip((op.name for op in wide.operations), placement.live_bytes(wide, TOKENS), strict=True))
    residual, ids = TOKENS * 24 * 4, 4  # and the lengths, once the embedding has read the ids
    assert live["layers.0.feed_forward.gelu"] == 2 * TOKENS * 4096 * 4 + residual
    assert live["embedding"] == TOKENS * (24 * 4 + 8) + ids
