"""BERT-base for every peer: `python -m benchmarks.inference.peer_models FOLDER ENGINE...`, in their environment.

Makes one float32 model with random weights (time depends on shapes, not on values) and converts it with each
engine's own tools, into FOLDER/ENGINE: what an engine needs on the disk and nothing else.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer
from onnxruntime.transformers.fusion_options import FusionOptions
from onnxruntime.transformers.optimizer import optimize_model
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

from benchmarks.inference.worker import scattered_inputs

BLOCK, LEVEL = 128, 4
CALIBRATION_LENGTHS = (8, 16, 32, 48, 64, 96, 128, 256)
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def source_model(folder: Path) -> BertForSequenceClassification:
    """Return the float32 model, also written as a Hugging Face folder and as unoptimised ONNX."""
    torch.manual_seed(0)
    config = BertConfig(attn_implementation="eager")  # the defaults are BERT-base
    model = BertForSequenceClassification(config).eval()
    model.bert.save_pretrained(folder)  # CTranslate2 converts the encoder alone
    words = [*SPECIAL, *(f"w{i}" for i in range(len(SPECIAL), config.vocab_size))]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    BertTokenizerFast(vocab_file=str(folder / "vocab.txt")).save_pretrained(folder)
    example = tuple(torch.from_numpy(scattered_inputs(2, 16)[name]) for name in INPUTS)
    torch.onnx.export(
        model,
        example,
        folder / "source.onnx",
        input_names=list(INPUTS),
        output_names=["logits"],
        dynamic_axes={name: {0: "batch", 1: "tokens"} for name in INPUTS} | {"logits": {0: "batch"}},
        opset_version=17,
        dynamo=False,  # the optimiser of ONNX Runtime knows the graphs of this exporter
    )
    return model


def fused(source: Path, out: Path, *, fuse_projections: bool) -> onnx.ModelProto:
    """Write and return the graph with ONNX Runtime's fused operators; Q, K and V inside attention or outside."""
    options = FusionOptions("bert")
    options.use_multi_head_attention = not fuse_projections
    optimised = optimize_model(
        str(source), "bert", num_heads=12, hidden_size=768, optimization_options=options, opt_level=0
    )
    optimised.save_model_to_file(str(out))
    return optimised.model


def onnxruntime_fp32(source: Path, out: Path) -> None:
    _require(fused(source, out / "model.onnx", fuse_projections=True), "Attention", 12)


def onnxruntime_int8(source: Path, out: Path) -> None:
    float32 = out / "float32.onnx"
    fused(source, float32, fuse_projections=True)
    options = {"DefaultTensorType": onnx.TensorProto.FLOAT}  # shapes are not inferred through fused operators
    quantize_dynamic(float32, out / "model.onnx", weight_type=QuantType.QInt8, extra_options=options)
    float32.unlink()
    _require(onnx.load(out / "model.onnx"), "QAttention", 12)


def onnxruntime_2bit(source: Path, out: Path) -> None:
    configuration = DefaultWeightOnlyQuantConfig(
        block_size=BLOCK, is_symmetric=False, accuracy_level=LEVEL, bits=2, op_types_to_quantize=("MatMul",)
    )
    float32 = out / "float32.onnx"
    quantizer = MatMulNBitsQuantizer(fused(source, float32, fuse_projections=False), algo_config=configuration)
    quantizer.process()
    float32.unlink()
    _require(quantizer.model.model, "MatMulNBits", 12 * 6)
    quantizer.model.save_model_to_file(str(out / "model.onnx"), False)


def openvino_int8(source: Path, out: Path) -> None:
    import nncf  # noqa: PLC0415
    import openvino  # noqa: PLC0415

    data = nncf.Dataset([scattered_inputs(1, tokens) for tokens in CALIBRATION_LENGTHS])
    model = openvino.convert_model(source)
    quantized = nncf.quantize(model, data, subset_size=len(CALIBRATION_LENGTHS), model_type=nncf.ModelType.TRANSFORMER)
    openvino.save_model(quantized, out / "model.xml", compress_to_fp16=False)


def openvino_int4(source: Path, out: Path) -> None:
    import nncf  # noqa: PLC0415
    import openvino  # noqa: PLC0415

    mode = nncf.CompressWeightsMode.INT4_SYM
    compressed = nncf.compress_weights(openvino.convert_model(source), mode=mode, group_size=BLOCK, ratio=1.0)
    openvino.save_model(compressed, out / "model.xml", compress_to_fp16=False)


def ctranslate2_int8(source: Path, out: Path) -> None:
    from ctranslate2.converters import TransformersConverter  # noqa: PLC0415

    TransformersConverter(str(source.parent)).convert(str(out), quantization="int8", force=True)
    with np.load(source.parent / "classifier.npz") as head:
        np.savez(out / "classifier.npz", **head)


def _require(model: onnx.ModelProto, kind: str, count: int) -> None:
    """End where the tools no longer make the operators that this comparison is about."""
    found = sum(node.op_type == kind for node in model.graph.node)
    if found < count:
        sys.exit(f"peer_models: expected at least {count} {kind} in the optimised graph, found {found}")


CONVERSIONS: dict[str, Callable[[Path, Path], None]] = {
    function.__name__: function
    for function in (
        openvino_int8, openvino_int4, ctranslate2_int8, onnxruntime_int8, onnxruntime_2bit, onnxruntime_fp32
    )
}  # fmt: skip


def main(folder: Path, names: Sequence[str]) -> None:
    """Make those of these models that are missing; a model's folder appears whole."""
    wanted, source = [name for name in names if not (folder / name).is_dir()], folder / "source"
    if not wanted:
        return
    source.mkdir(parents=True, exist_ok=True)
    model = source_model(source)
    weight, bias = (parameter.detach().numpy() for parameter in model.classifier.parameters())
    np.savez(source / "classifier.npz", weight=weight, bias=bias)
    for name in wanted:
        print(f"converting: {name}", file=sys.stderr, flush=True)
        fresh = folder / f"{name}.part"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        CONVERSIONS[name](source / "source.onnx", fresh)
        fresh.rename(folder / name)
    shutil.rmtree(source)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
