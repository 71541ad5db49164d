"""How each engine is opened and called. An engine is imported by the function that opens it, by no other process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

import numpy as np

from benchmarks.inference.engines import OURS, OURS_SMALLER

Arrays = dict[str, np.ndarray]
# Takes input_ids, attention_mask and token_type_ids, (B, S); returns logits, float32 (B, labels).
Call = Callable[[Arrays], np.ndarray]
Shapes = Sequence[tuple[int, int]]


def open_engine(name: str, model: Path, threads: int, shapes: Shapes) -> Call:
    """Return the engine's call, the model loaded; `shapes` (B, S) are those that will come, for static ones."""
    if name in {OURS, OURS_SMALLER}:
        return _ours(model, threads)
    if name == "openvino_int8":
        return _openvino_static(model, threads, shapes)
    if name == "openvino_int4":
        return _openvino_dynamic(model, threads)
    if name == "ctranslate2_int8":
        return _ctranslate2(model, threads)
    return _onnxruntime(model, threads)


def package_version(package: str) -> str:
    """Return the version of an engine's package as this process sees it."""
    return str(import_module(package).__version__)


def _ours(bundle: Path, threads: int) -> Call:
    from deploy.runtime.classifier import Classifier  # noqa: PLC0415

    classifier = Classifier.load(bundle, threads=threads)

    def call(arrays: Arrays) -> np.ndarray:
        ids = arrays["input_ids"].astype(np.int32)
        lengths = arrays["attention_mask"].sum(axis=1).astype(np.int32)
        types = arrays["token_type_ids"].astype(np.int32)
        return classifier.logits({"input_ids": ids, "token_type_ids": types, "lengths": lengths})

    return call


def _openvino_settings(threads: int) -> dict[str, str]:
    return {"INFERENCE_NUM_THREADS": str(threads), "NUM_STREAMS": "1", "PERFORMANCE_HINT": "LATENCY"}


def _openvino_static(model: Path, threads: int, shapes: Shapes) -> Call:
    """Compile the model once a shape: with its dimensions known, OpenVINO plans memory and kernels ahead."""
    import openvino  # noqa: PLC0415

    core, requests = openvino.Core(), {}
    for shape in shapes:
        network = core.read_model(model / "model.xml")
        network.reshape({tensor.any_name: list(shape) for tensor in network.inputs})
        requests[shape] = core.compile_model(network, "CPU", _openvino_settings(threads)).create_infer_request()

    def call(arrays: Arrays) -> np.ndarray:
        request = requests[arrays["input_ids"].shape]
        return np.array(next(iter(request.infer(arrays, share_inputs=True, share_outputs=True).values())))

    return call


def _openvino_dynamic(model: Path, threads: int) -> Call:
    import openvino  # noqa: PLC0415

    compiled = openvino.Core().compile_model(model / "model.xml", "CPU", _openvino_settings(threads))
    request = compiled.create_infer_request()

    def call(arrays: Arrays) -> np.ndarray:
        return np.array(next(iter(request.infer(arrays, share_inputs=True, share_outputs=True).values())))

    return call


def _ctranslate2(model: Path, threads: int) -> Call:
    """Its encoder ends with the pooler; the classifier, two rows of 768, is computed here."""
    import ctranslate2  # noqa: PLC0415

    encoder = ctranslate2.Encoder(
        str(model), device="cpu", compute_type="int8", inter_threads=1, intra_threads=threads, max_queued_batches=-1
    )
    with np.load(model / "classifier.npz") as head:
        weight, bias = head["weight"], head["bias"]

    def call(arrays: Arrays) -> np.ndarray:
        output = encoder.forward_batch(arrays["input_ids"].tolist(), token_type_ids=arrays["token_type_ids"].tolist())
        return np.asarray(output.pooler_output) @ weight.T + bias

    return call


def _onnxruntime(model: Path, threads: int) -> Call:
    import onnxruntime as ort  # noqa: PLC0415

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    session = ort.InferenceSession(str(model / "model.onnx"), options, providers=["CPUExecutionProvider"])
    wanted = {found.name for found in session.get_inputs()}

    def call(arrays: Arrays) -> np.ndarray:
        return session.run(None, {name: array for name, array in arrays.items() if name in wanted})[0]

    return call
