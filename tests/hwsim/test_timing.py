"""Cycles of the array against SCALE-Sim 3.0.0, and the rules for stalls."""

from __future__ import annotations

import pytest

from hwsim.config import Dataflow, read_accelerator
from hwsim.memory import Traffic, operand_reads
from hwsim.timing import gemm_cycles, operation_cycles
from hwsim.workload import nonzero_weights, workload
from tests.builders import tiny_parameters, tiny_quantization, tiny_shape
from ti_qat.artifact.encoder import Gemm, OpKind, build_encoder

# SCALE-Sim 3.0.0, M = 128, K = 768, N = 768 on 32 x 32: total cycles; SRAM reads of inputs and of filters.
SCALE_SIM = {
    Dataflow.WEIGHT_STATIONARY: (127_871, 2_359_296, 589_824),
    Dataflow.OUTPUT_STATIONARY: (79_679, 2_359_296, 2_359_296),
    Dataflow.INPUT_STATIONARY: (82_751, 98_304, 2_359_296),
}


@pytest.mark.parametrize("dataflow", list(Dataflow))
def test_cycles_are_those_of_scale_sim(dataflow: Dataflow) -> None:
    assert gemm_cycles(dataflow, 128, 768, 768, 32, 32) == SCALE_SIM[dataflow][0]


@pytest.mark.parametrize("dataflow", list(Dataflow))
def test_operand_reads_are_those_of_scale_sim(dataflow: Dataflow) -> None:
    accelerator = read_accelerator("edge").model_copy(
        update={"array_rows": 32, "array_columns": 32, "dataflow": dataflow}
    )
    reads = operand_reads(Gemm("g", OpKind.TERNARY_LINEAR, 128, 768, 768), 2, accelerator)
    _, inputs, weights = SCALE_SIM[dataflow]
    assert reads.input_read_bits == 8 * inputs
    assert reads.weight_read_bits == 2 * weights
    # SCALE-Sim writes 24 folds of partial sums under WS and IS; the last fold leaves as the output.
    folds = 1 if dataflow is Dataflow.OUTPUT_STATIONARY else 24
    assert reads.partial_sum_write_bits == reads.partial_sum_read_bits == 24 * 128 * 768 * (folds - 1)


def test_one_by_one_array_streams_every_multiply_accumulate() -> None:
    for dataflow in Dataflow:
        assert gemm_cycles(dataflow, 3, 5, 7, 1, 1) >= 3 * 5 * 7 - 1  # counted from cycle 0


def test_an_operation_takes_the_longer_of_computing_and_transferring() -> None:
    encoder = build_encoder(tiny_shape(), tiny_quantization())
    nonzero = nonzero_weights(encoder, tiny_parameters(tiny_shape(), tiny_quantization()))
    accelerator = read_accelerator("edge")
    for step in workload(encoder, 9, nonzero):
        free = operation_cycles(step, Traffic(), accelerator)
        assert (free.transfer, free.total) == (0, free.compute)
        slow = operation_cycles(step, Traffic(dram_read=10**6), accelerator)
        assert slow.compute == free.compute
        assert slow.total == slow.transfer == 10**6 * 100e6 / 800e6
