"""The pipeline's leaps against a walk of every tile, and what two slots and one channel mean."""

from __future__ import annotations

from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.config import Accelerator, Dataflow, read_accelerator
from hwsim.schedule.execution import Inference, plan_inference, schedule
from hwsim.schedule.pipeline import Pipeline, Repeat, Tile, total
from tests.builders import tiny_quantization, tiny_shape
from tests.hwsim.tiles import unrolled
from ti_qat.artifact.encoder import OpKind, build_encoder

WEARABLE = read_accelerator("wearable")


def accelerator(latency_ns: float = 100.0, bytes_per_s: float = 800e6) -> Accelerator:
    return WEARABLE.model_copy(update={"dram_latency_ns": latency_ns, "dram_bandwidth_bytes_per_s": bytes_per_s})


def walk(operations, machine: Accelerator) -> tuple[list[int], int]:
    """One event after the other, in lists that forget nothing: (end of every operation, end of all)."""
    latency = ceil(machine.dram_latency_ns * machine.clock_hz / 1e9)
    computed, slots, writes, ends = [0], [0, 0], [0, 0], []
    channel, waiting = 0, None

    def transfer(size: int) -> int:
        return ceil(size * machine.clock_hz / machine.dram_bandwidth_bytes_per_s)

    def write() -> None:
        nonlocal channel, waiting
        if waiting is not None:
            made, size = waiting
            channel = max(channel, made) + transfer(size)
            writes.append(channel)
            waiting = None

    for body, after_writes in operations:
        first = True
        for tile in unrolled(body):
            ready = 0
            if after_writes and first:
                write()
                channel = max(channel, max(computed[-1], writes[-1]) + latency)
            if tile.weight_bytes + tile.input_bytes:
                channel = max(channel, slots[-2] + latency) + transfer(tile.weight_bytes + tile.input_bytes)
                ready = channel
            write()
            begin = max(computed[-1], ready, writes[-2] if tile.output_bytes else 0)
            computed.append(begin + tile.occupied_cycles)
            if tile.weight_bytes + tile.input_bytes:
                slots.append(computed[-1])
            if tile.output_bytes:
                waiting = computed[-1], tile.output_bytes
            first = False
        ends.append(computed[-1])
    write()
    return ends, max(computed[-1], writes[-1])


tiles = st.builds(
    lambda cycles, weights, inputs, outputs: Tile(cycles, cycles, weights, inputs, outputs),
    st.integers(1, 60), st.sampled_from([0, 0, 1, 7, 64, 400]), st.sampled_from([0, 0, 5, 90]),
    st.sampled_from([0, 0, 3, 50, 300]),
)  # fmt: skip
bodies = st.recursive(
    st.lists(tiles, min_size=1, max_size=4).map(tuple),
    lambda inner: st.lists(st.builds(Repeat, st.integers(1, 40), inner), min_size=1, max_size=3).map(tuple),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(bodies, st.booleans()), min_size=1, max_size=5),
    st.sampled_from([0.0, 10.0, 100.0, 2000.0]),
    st.sampled_from([50e6, 800e6, 12.8e9]),
)
def test_leaps_end_where_a_walk_of_every_tile_ends(operations, latency_ns: float, bytes_per_s: float) -> None:
    machine = accelerator(latency_ns, bytes_per_s)
    operations = operations * 3  # as layers are
    pipeline = Pipeline(machine)
    ends = []
    for body, after_writes in operations:
        pipeline.run(body, after_writes=after_writes)
        ends.append(pipeline.now_cycle)
    assert (ends, pipeline.finish()) == walk(operations, machine)
    again = Pipeline(machine, keep_transfers=False)
    for (body, after_writes), end in zip(operations, ends, strict=True):
        again.run_again(body, after_writes=after_writes)
        assert again.now_cycle == end
    moved = [total(body) for body, _ in operations]
    assert sum(t.read_bytes for t in pipeline.transfers) == sum(tile.fetched_bytes for tile in moved)
    assert sum(t.write_bytes for t in pipeline.transfers) == sum(tile.output_bytes for tile in moved)
    channel = [cycle for t in pipeline.transfers for cycle in (t.start_cycle, t.end_cycle)]
    assert channel == sorted(channel)


@pytest.mark.parametrize(
    ("compute", "moved", "latency_cycles", "each"),
    [
        (100, 80, 0, 100),  # the array is the bottleneck: transfers of 10 cycles hide
        (10, 800, 0, 100),  # the channel is
        (50, 400, 60, 80),  # neither: a fetch (60 + 50) and a computation (50) in two slots, so 160 cycles for two
    ],
)
def test_steady_state_is_the_slowest_circuit(compute: int, moved: int, latency_cycles: int, each: int) -> None:
    tile = Tile(compute, compute, weight_bytes=moved)
    cycles = []
    for count in (1000, 3000):
        pipeline = Pipeline(accelerator(latency_cycles * 10.0))
        pipeline.run((Repeat(count, (tile,)),))
        cycles.append(pipeline.finish())
    assert cycles[1] - cycles[0] == 2000 * each
    assert len(pipeline.transfers) < 20  # it leapt


def test_weights_are_fetched_while_units_without_weights_work() -> None:
    pipeline = Pipeline(accelerator(0.0))
    pipeline.run((Tile(5, 5, weight_bytes=80),))
    pipeline.run((Tile(1000, 1000),))
    pipeline.run((Tile(5, 5, weight_bytes=800),))
    assert pipeline.finish() == 10 + 5 + 1000 + 5  # the 100 cycles of the second fetch are hidden
    pipeline = Pipeline(accelerator(0.0))
    pipeline.run((Tile(5, 5, output_bytes=80),))
    pipeline.run((Tile(5, 5, input_bytes=80),), after_writes=True)
    assert pipeline.finish() == 5 + 10 + 10 + 5  # but what was written is fetched after it was


@pytest.mark.parametrize("ends_writing", [True, False])
def test_a_million_tiles_take_no_million_steps(ends_writing: bool) -> None:
    writing, reading = Tile(40, 40, 150, 0, 30), Tile(7, 7, 90)
    inner = (reading, writing) if ends_writing else (writing, reading)
    pipeline = Pipeline(accelerator())
    pipeline.run((Repeat(10**6, (Repeat(1000, inner), reading)),))
    assert pipeline.now_cycle >= 10**9 * total(inner).occupied_cycles
    assert len(pipeline.transfers) < 1000


def test_a_write_that_waits_is_no_part_of_the_rhythm() -> None:
    reading, writing = Tile(1, 1, weight_bytes=1), Tile(1, 1, weight_bytes=1, output_bytes=3)
    body = (Repeat(2, (Repeat(4, (reading,)), Repeat(3, (writing,)))),)
    machine = accelerator(0.0, 50e6)
    pipeline = Pipeline(machine)
    pipeline.run(body)
    assert ([pipeline.now_cycle], pipeline.finish()) == walk([(body, False)], machine)


@settings(max_examples=25, deadline=None)
@given(
    rows=st.sampled_from([1, 3, 4, 16]),
    columns=st.sampled_from([1, 5, 8]),
    dataflow=st.sampled_from(list(Dataflow)),
    weight_buffer_bytes=st.sampled_from([64, 200, 1000, 1 << 20]),
    activation_buffer_bytes=st.sampled_from([64, 900, 4000, 1 << 20]),
    banks=st.sampled_from([None, 1, 4]),
    tokens=st.sampled_from([1, 2, 11]),
)
def test_an_inference_on_any_array_is_the_walk_of_all_its_tiles(
    rows: int,
    columns: int,
    dataflow: Dataflow,
    weight_buffer_bytes: int,
    activation_buffer_bytes: int,
    banks: int | None,
    tokens: int,
) -> None:
    machine = WEARABLE.model_copy(
        update={
            "array_rows": rows,
            "array_columns": columns,
            "dataflow": dataflow,
            "weight_buffer_bytes": weight_buffer_bytes,
            "activation_buffer_bytes": activation_buffer_bytes,
            "weight_buffer_banks": banks,
            "activation_buffer_banks": banks,
        }
    )
    encoder = build_encoder(tiny_shape(), tiny_quantization())
    nonzero = {op.name: 1 for op in encoder.of_kind(OpKind.TERNARY_LINEAR)}
    planned, _ = plan_inference(Inference.of(encoder, tokens, nonzero), machine)
    times = schedule(planned, machine).operations
    ends, last = walk([(operation.body, operation.rereads) for operation in planned], machine)
    assert [taken.end_cycle for taken in times] == [*ends[:-1], last]
    for operation, taken in zip(planned, times, strict=True):
        assert min(taken.buffer_stall_cycles, taken.dram_stall_cycles) >= 0
        compute = sum(tile.compute_cycles for tile in unrolled(operation.body))
        assert taken.cycles >= taken.compute_cycles == compute > 0
