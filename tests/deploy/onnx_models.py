"""One-operator ONNX models and the ways to run them."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from deploy.function_bodies import function_protos
from deploy.lowering import attributes_of
from deploy.operators import DOMAIN, DOMAIN_VERSION, IR_VERSION, OPSET, SCHEMAS
from deploy.reference_ops import REFERENCE_OPS
from deploy.runtime.session import session_options
from tests.builders import tiny_shape
from tests.deploy.operands import Case


def model_of(case: Case) -> onnx.ModelProto:
    """A model of the case's operator alone, with its function body."""
    schema = SCHEMAS[case.operator]
    named = dict(zip(schema.inputs, case.operands, strict=True))
    attributes = attributes_of(case.operator, case.packing, case.heads)
    node = helper.make_node(case.operator, list(schema.inputs), list(schema.outputs), domain=DOMAIN, **attributes)
    # Symbolic dimensions: as in a bundle, and so that a wrong size reaches the operator.
    graph = helper.make_graph(
        [node],
        case.operator,
        [_info(name, value) for name, value in named.items() if name not in case.constants],
        [_info(name, value) for name, value in zip(schema.outputs, case.expected, strict=True)],
        [numpy_helper.from_array(named[name], name) for name in case.constants],
    )
    return helper.make_model(
        graph,
        functions=function_protos(tiny_shape(), case.packing),
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, DOMAIN_VERSION)],
        ir_version=IR_VERSION,
    )


def _info(name: str, value: np.ndarray) -> onnx.ValueInfoProto:
    element_type = helper.np_dtype_to_tensor_dtype(value.dtype)
    return helper.make_tensor_value_info(name, element_type, [f"{name}_{axis}" for axis in range(value.ndim)])


def feeds(case: Case) -> dict[str, np.ndarray]:
    named = zip(SCHEMAS[case.operator].inputs, case.operands, strict=True)
    return {name: value for name, value in named if name not in case.constants}


def with_operators(case: Case, *, threads: int = 1, isa: str | None = None) -> list[np.ndarray]:
    return _run(model_of(case), session_options(threads=threads, isa=isa), case)


def with_standard_operators(case: Case) -> list[np.ndarray]:
    """At ONNX Runtime's highest optimisation level, its default."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return _run(model_of(case), options, case)


def with_reference_evaluator(case: Case) -> list[np.ndarray]:
    return ReferenceEvaluator(model_of(case), new_ops=list(REFERENCE_OPS)).run(None, feeds(case))


def _run(model: onnx.ModelProto, options: ort.SessionOptions, case: Case) -> list[np.ndarray]:
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds(case))
