"""Teacher intervention: the teacher's own values replace the student's inside attention.

Kim et al.: Teacher Intervention, improving convergence of quantization aware training for ultra-low
precision transformers (EACL 2023). `ti_qat.schedules` says at which step which values.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from transformers import BertForSequenceClassification

from ti_qat.errors import UnsupportedModelError
from ti_qat.modeling import AttentionTap, attach_taps
from ti_qat.schedules import InterventionPoint


@dataclass
class AttentionRecord:
    """The attention of every layer of one forward pass, each list in layer order.

    scores, probabilities: float32 (B, heads, S, S); context, output: float32 (B, S, H).
    """

    scores: list[Tensor] = field(default_factory=list)
    probabilities: list[Tensor] = field(default_factory=list)
    context: list[Tensor] = field(default_factory=list)
    output: list[Tensor] = field(default_factory=list)

    def require_layers(self, layers: int) -> None:
        """Raise unless every layer has reported: a model that bypasses our hooks would train unhooked."""
        for name in ("scores", "probabilities", "context", "output"):
            found = len(getattr(self, name))
            if found != layers:
                raise UnsupportedModelError(f"attention {name}: expected {layers} layers to report, found {found}")


class AttentionRecorder:
    """Records the attention of chosen forward passes of `model`."""

    def __init__(self, model: BertForSequenceClassification) -> None:
        self._taps = attach_taps(model)
        self._record: AttentionRecord | None = None
        for layer in model.bert.encoder.layer:
            layer.attention.output.dense.register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        if self._record is not None:
            self._record.context.append(args[0])
            self._record.output.append(output)

    @contextmanager
    def recording(self) -> Iterator[AttentionRecord]:
        """Yield the record that the one forward pass inside the block fills; complete when the block ends."""
        self._record = record = AttentionRecord()
        self._clear_taps()
        try:
            yield record
            for tap in self._taps:
                if tap.scores is not None and tap.probabilities is not None:
                    record.scores.append(tap.scores)
                    record.probabilities.append(tap.probabilities)
            record.require_layers(len(self._taps))
        finally:
            self._record = None
            self._clear_taps()

    def _clear_taps(self) -> None:
        for tap in self._taps:
            tap.scores = tap.probabilities = None


class TeacherIntervention:
    """Replaces the student's attention by the teacher's while `during` is active."""

    def __init__(self, student: BertForSequenceClassification) -> None:
        self._point: InterventionPoint | None = None
        self._teacher = AttentionRecord()
        self._fired = 0
        self._taps: list[AttentionTap] = []
        for i, layer in enumerate(student.bert.encoder.layer):
            attention = layer.attention
            self._taps.append(attention.self.tap)
            for linear in (attention.self.query, attention.self.key):
                linear.register_forward_pre_hook(self._detach_query_key)
            attention.self.value.register_forward_pre_hook(self._detach_value)
            attention.output.dense.register_forward_pre_hook(self._context_hook(i))
            attention.output.dense.register_forward_hook(self._output_hook(i))

    @contextmanager
    def during(self, point: InterventionPoint | None, teacher: AttentionRecord) -> Iterator[None]:
        """Intervene at `point` in the student's forward pass made inside the block."""
        self._point, self._teacher, self._fired = point, teacher, 0
        if point is InterventionPoint.ATTENTION_MAP:
            for tap, probabilities in zip(self._taps, teacher.probabilities, strict=True):
                tap.replacement, tap.replaced = probabilities, False
        try:
            yield
            self._require_all_fired()
        finally:
            self._point, self._teacher = None, AttentionRecord()
            for tap in self._taps:
                tap.replacement = None

    def _require_all_fired(self) -> None:
        if self._point is None:
            return
        fired = (
            sum(tap.replaced for tap in self._taps) if self._point is InterventionPoint.ATTENTION_MAP else self._fired
        )
        if fired != len(self._taps):
            raise UnsupportedModelError(
                f"intervention at {self._point}: expected {len(self._taps)} layers, reached {fired}"
            )

    def _detach_query_key(self, module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        return (args[0].detach(),) if self._point is not None else None

    def _detach_value(self, module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        # Under TI-M the values still form the context, so their input keeps its gradient.
        return (args[0].detach(),) if self._point in (InterventionPoint.CONTEXT, InterventionPoint.OUTPUT) else None

    def _context_hook(self, layer: int) -> Any:
        def replace(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
            if self._point is not InterventionPoint.CONTEXT:
                return None
            self._fired += 1
            return (self._teacher.context[layer],)

        return replace

    def _output_hook(self, layer: int) -> Any:
        def replace(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
            if self._point is not InterventionPoint.OUTPUT:
                return None
            self._fired += 1
            return self._teacher.output[layer]

        return replace
