"""Writes a trained student as an artifact and holds the NumPy oracle against torch on the golden rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import PreTrainedModel

from ti_qat import __version__
from ti_qat.artifact import io
from ti_qat.artifact.encoder import Operation, OpKind, execute, hidden_state_names
from ti_qat.artifact.evaluation import (
    EvaluationSplit,
    label_agreement,
    largest_difference,
    predictions,
    score,
    valid_codes,
)
from ti_qat.artifact.process import peak_rss_bytes
from ti_qat.artifact.reference import KERNELS
from ti_qat.artifact.schema import Metric, Provenance, Tokenization
from ti_qat.errors import TrainingError
from ti_qat.evaluation import model_inputs, outcomes_of
from ti_qat.models import model_directory
from ti_qat.models.exported_network import encoder_shape, parameters_of
from ti_qat.models.families import family_of, layers_of, require_exportable
from ti_qat.models.model_directory import StudentDescription, TrainedModel, TrainedTask
from ti_qat.models.modeling import static_quantizers, ternary_linears
from ti_qat.quantization.activation_quantizers import PerTokenQuantizer
from ti_qat.quantization.quantizers import Quantized
from ti_qat.tasks.data import labels_of, lengths_of
from ti_qat.tasks.lookup import objective_of
from ti_qat.tasks.objectives import Split
from ti_qat.tasks.text_task import TextTask

Array = np.ndarray[Any, Any]
GOLDEN_ROWS = 8


@dataclass(frozen=True)
class Agreement:
    """The NumPy oracle against the torch student on the golden rows, padding left out.

    Codes differ where float32 sums in another order fall on the other side of a rounding tie, and where
    such a difference has been carried on. `label_agreement` is None for a regression.
    """

    golden_rows: int
    codes_compared: int
    codes_different: int
    largest_code_difference: int
    largest_logit_difference: float
    label_agreement: float | None


@dataclass(frozen=True)
class ExportResult:
    """What was written; `score` is the torch student's on the split that travels with the artifact.

    `teacher_score` is the teacher's on the same rows, None where it was not given.
    """

    path: str
    digest: str
    metric: str
    score: float
    teacher_score: float | None
    rows: int
    agreement: Agreement
    peak_rss_bytes: int


def export(
    student_dir: Path, task: TextTask | None, data_dir: Path, out: Path, teacher_dir: Path | None = None
) -> ExportResult:
    """Write the student at `student_dir` as the artifact directory `out`, whole or not at all.

    `task` is the one it was trained on unless given; the logits of the teacher at `teacher_dir` go along where it
    is given. Raises `TrainingError`, `TaskError`, `ArtifactError`.
    """
    model = model_directory.load(student_dir)
    if model.student is None:
        raise TrainingError(f"{student_dir}: expected a student, found a teacher")
    require_exportable(model.model.config)
    quantization = model.student.quantizers.exported()
    task = task or model.trained.task
    model_directory.require_same_labels(task, model)
    rows = objective_of(task).read(data_dir, Split.DEV, model.processor, model.trained.max_length)
    evaluation = evaluation_split(model, rows, task.metric)
    if teacher_dir is not None:
        evaluation = replace(evaluation, teacher_logits=teacher_logits(teacher_dir, task, data_dir))
    model.processor.backend_tokenizer.no_padding()
    model.processor.backend_tokenizer.no_truncation()
    artifact = io.save(
        out,
        task=task.describe(),
        encoder=encoder_shape(model.model),
        quantization=quantization,
        tokenization=Tokenization(max_length=model.trained.max_length, pad_token_id=model.processor.pad_token_id),
        provenance=_provenance(model.trained, model.student),
        parameters=parameters_of(model.model),
        tokenizer_json=model.processor.backend_tokenizer.to_str(),
        evaluation=evaluation,
    )
    return ExportResult(
        path=str(out),
        digest=artifact.digest,
        metric=task.metric.value,
        score=score(task.metric, evaluation.labels, predictions(task.metric, evaluation.logits)),
        teacher_score=evaluation.teacher_score(task.metric, evaluation.rows),
        rows=evaluation.rows,
        agreement=agreement(model.model, artifact),
        peak_rss_bytes=peak_rss_bytes(),
    )


def _provenance(trained: TrainedTask, student: StudentDescription) -> Provenance:
    return Provenance(
        tool_version=__version__,
        teacher=trained.source,
        method=student.method.value,
        seed=trained.seed,
        training_rows=trained.training_rows,
    )


def evaluation_split(model: TrainedModel, rows: Dataset, metric: Metric) -> EvaluationSplit:
    """Return the tokenised rows with the student's logits, and its hidden states of the first rows."""
    lengths = np.asarray(lengths_of(rows), np.int32)
    tokens = int(lengths.max())
    padded = {
        name: np.full((len(rows), tokens), fill, np.int32)
        for name, fill in (("input_ids", model.processor.pad_token_id), ("token_type_ids", 0))
    }
    for name, array in padded.items():
        for row, values in enumerate(rows[name]):
            array[row, : len(values)] = values
    golden_rows = np.arange(min(GOLDEN_ROWS, len(rows)))
    with torch.no_grad():
        output = model.model(**model_inputs(model, rows, golden_rows), output_hidden_states=True)
    names = hidden_state_names(encoder_shape(model.model))
    golden = {}
    for name, state in zip(names, output.hidden_states, strict=True):
        golden[name] = np.zeros((len(golden_rows), tokens, state.shape[-1]), np.float32)
        golden[name][:, : state.shape[1]] = state.numpy()
    return EvaluationSplit(
        **padded,
        lengths=lengths,
        labels=labels_of(rows, metric),
        logits=outcomes_of(model, rows),
        golden=golden,
    )


def teacher_logits(teacher_dir: Path, task: TextTask, data_dir: Path) -> Array:
    """Return the teacher's logits of the evaluation split, float32 (R, labels), its texts tokenised its own way."""
    teacher = model_directory.load_teacher(teacher_dir)
    model_directory.require_same_labels(task, teacher)
    rows = objective_of(task).read(data_dir, Split.DEV, teacher.processor, teacher.trained.max_length)
    return outcomes_of(teacher, rows)


@contextmanager
def _recorded_codes(student: PreTrainedModel) -> Iterator[dict[str, Array]]:
    """Record the codes of every quantiser during the block, by the name of the artifact's operation."""
    quantizers: dict[str, nn.Module] = dict(static_quantizers(student))
    attention = family_of(student.config).attention
    for i, layer in enumerate(layers_of(student)):
        probabilities = layer.get_submodule(attention).quantizers.probabilities
        quantizers[f"layers.{i}.attention.probabilities_quantizer"] = probabilities
    for name, linear in ternary_linears(student).items():
        if isinstance(linear.quantizer, PerTokenQuantizer):
            shared = name.endswith((".query", ".key", ".value"))
            quantizers[f"{name.rpartition('.')[0] if shared else name}.input"] = linear.quantizer
    codes: dict[str, Array] = {}

    def keep(name: str) -> Callable[..., None]:
        def record(module: nn.Module, args: tuple[Tensor, ...], output: Quantized) -> None:
            codes[name] = output.codes.numpy().astype(np.int8)

        return record

    handles = [quantizer.register_forward_hook(keep(name)) for name, quantizer in quantizers.items()]
    try:
        yield codes
    finally:
        for handle in handles:
            handle.remove()


def agreement(student: PreTrainedModel, artifact: io.Artifact) -> Agreement:
    """Run the NumPy oracle and torch on the golden rows, both padded alike, and compare every code."""
    split = artifact.evaluation
    golden_rows = len(next(iter(split.golden.values())))
    lengths = split.lengths[:golden_rows]
    tokens = int(lengths.max())
    inputs = {
        "input_ids": split.input_ids[:golden_rows, :tokens],
        "token_type_ids": split.token_type_ids[:golden_rows, :tokens],
        "lengths": lengths,
    }
    mask = torch.from_numpy((np.arange(tokens) < lengths[:, None]).astype(np.int64))
    with torch.no_grad(), _recorded_codes(student) as torch_codes:
        ids, types = (torch.from_numpy(inputs[name].astype(np.int64)) for name in ("input_ids", "token_type_ids"))
        logits = student(input_ids=ids, token_type_ids=types, attention_mask=mask).logits.numpy()
    compared = different = largest = 0

    def compare(op: Operation, operands: Mapping[str, Array], results: tuple[Array, ...]) -> None:
        nonlocal compared, different, largest
        if op.kind not in (OpKind.QUANTIZE, OpKind.QUANTIZE_PER_TOKEN):
            return
        for row, length in enumerate(lengths):
            ours = valid_codes(_as_heads(results[0], torch_codes[op.name]), row, int(length)).astype(np.int16)
            theirs = valid_codes(torch_codes[op.name], row, int(length)).astype(np.int16)
            gap = np.abs(ours - theirs)
            compared, different, largest = (
                compared + gap.size,
                different + int((gap > 0).sum()),
                max(largest, int(gap.max())),
            )

    oracle = execute(artifact.encoder, KERNELS, artifact.parameters, inputs, compare)
    return Agreement(
        golden_rows=golden_rows,
        codes_compared=compared,
        codes_different=different,
        largest_code_difference=largest,
        largest_logit_difference=largest_difference(oracle, logits),
        label_agreement=label_agreement(artifact.header.task.metric, oracle, logits),
    )


def _as_heads(codes: Array, like: Array) -> Array:
    """Return codes (B, S, H) as (B, heads, S, D) where torch holds them so: queries, keys and values."""
    if codes.shape == like.shape:
        return codes
    batch, heads, tokens, width = like.shape
    return codes.reshape(batch, tokens, heads, width).transpose(0, 2, 1, 3)
