"""The description of the network: complete, ordered, and right about sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.builders import tiny_artifact, tiny_quantization, tiny_shape
from ti_qat.artifact import reference
from ti_qat.artifact.encoder import OpKind, build_encoder, execute, gemms, hidden_state_names
from ti_qat.artifact.schema import ActivationScaling


def test_operations_read_only_what_came_before() -> None:
    for scaling in ActivationScaling:
        encoder = build_encoder(tiny_shape(), tiny_quantization(activations=scaling))
        known = set(encoder.graph_inputs) | set(encoder.parameters)
        for op in encoder.operations:
            assert set(op.inputs.values()) <= known, op.name
            assert not set(op.outputs) & known, op.name
            known |= set(op.outputs)
        assert known == set(encoder.parameters) | set(encoder.activations)
        assert set(hidden_state_names(encoder.shape)) <= known


def test_announced_shapes_and_dtypes_are_those_that_come_out(tmp_path: Path) -> None:
    for scaling in ActivationScaling:
        artifact = tiny_artifact(tmp_path / scaling, quantization=tiny_quantization(activations=scaling))
        _, inputs = next(artifact.evaluation.batches(3))
        sizes = {"B": 3, "S": inputs["input_ids"].shape[1]}

        def observe(op, _operands, results, artifact=artifact, sizes=sizes) -> None:
            for name, result in zip(op.outputs, results, strict=True):
                announced = artifact.encoder.activations[name]
                assert result.shape == tuple(sizes.get(d, d) for d in announced.shape), name
                assert result.dtype == np.dtype(announced.dtype), name

        execute(artifact.encoder, reference.KERNELS, artifact.parameters, inputs, observe)


def test_bert_base_has_the_published_number_of_multiply_accumulates() -> None:
    base = tiny_shape(
        layers=12, hidden=768, heads=12, feed_forward=3072, vocabulary=30522, positions=512, token_types=2
    )
    work = gemms(build_encoder(base, tiny_quantization()), batch=1, tokens=128)
    ternary = sum(gemm.macs for gemm in work if gemm.kind is OpKind.TERNARY_LINEAR)
    int8 = sum(gemm.macs for gemm in work if gemm.kind is not OpKind.TERNARY_LINEAR)
    pooler = 768 * 768
    assert ternary == 12 * 128 * (4 * 768**2 + 2 * 768 * 3072) + pooler
    assert int8 == 12 * 2 * 128 * 128 * 768
