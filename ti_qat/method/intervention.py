"""Teacher intervention: the teacher's own values replace the student's inside attention.

Kim et al.: Teacher Intervention, improving convergence of quantization aware training for ultra-low
precision transformers (EACL 2023). `ti_qat.method.schedules` says at which step which values.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch import Tensor, nn
from transformers import PreTrainedModel

from ti_qat.errors import UnsupportedModelError
from ti_qat.method.schedules import InterventionPoint
from ti_qat.models.families import family_of, layers_of
from ti_qat.models.modeling import AttentionTap, attach_tap


@dataclass
class AttentionRecord:
    """The attention of every layer of one forward pass, each list in layer order.

    scores, probabilities: float32 (B, heads, S, S); context, output, sublayer: float32 (B, S, H). `sublayer`
    is what the feed-forward part takes in: the output after dropout, residual and normalisation.
    """

    scores: list[Tensor] = field(default_factory=list)
    probabilities: list[Tensor] = field(default_factory=list)
    context: list[Tensor] = field(default_factory=list)
    output: list[Tensor] = field(default_factory=list)
    sublayer: list[Tensor] = field(default_factory=list)

    def require_layers(self, layers: int) -> None:
        """Raise unless every layer has reported: a model that bypasses our hooks would train unhooked."""
        for name in ("scores", "probabilities", "context", "output", "sublayer"):
            found = len(getattr(self, name))
            if found != layers:
                raise UnsupportedModelError(f"attention {name}: expected {layers} layers to report, found {found}")


class AttentionRecorder:
    """Records the attention of chosen forward passes of `model`."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._tap = attach_tap(model)
        self._record: AttentionRecord | None = None
        family = family_of(model.config)
        first_of_feed_forward = next(iter(family.feed_forward.values()))
        for layer in layers_of(model):
            layer.get_submodule(family.output).register_forward_hook(self._keep)
            layer.get_submodule(first_of_feed_forward).register_forward_pre_hook(self._keep_sublayer)

    def _keep(self, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        if self._record is not None:
            self._record.context.append(args[0])
            self._record.output.append(output)

    def _keep_sublayer(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        if self._record is not None:
            self._record.sublayer.append(args[0])

    @contextmanager
    def recording(self) -> Iterator[AttentionRecord]:
        """Yield the record that the one forward pass inside the block fills; complete when the block ends."""
        self._record = record = AttentionRecord()
        tap = self._tap
        tap.recording, tap.scores, tap.probabilities = True, record.scores, record.probabilities
        try:
            yield record
            record.require_layers(tap.calls)
        finally:
            self._record = None
            tap.recording, tap.scores, tap.probabilities = False, [], []


class TeacherIntervention:
    """Replaces the student's attention by the teacher's while `during` is active.

    `student` is recorded already: an `AttentionRecorder` has put a tap in its attention.
    """

    def __init__(self, student: PreTrainedModel) -> None:
        family = family_of(student.config)
        self._point: InterventionPoint | None = None
        self._teacher = AttentionRecord()
        self._fired = 0
        for layer in layers_of(student):
            self._tap: AttentionTap = layer.get_submodule(family.attention).tap
            for path in (family.query, family.key):
                layer.get_submodule(path).register_forward_pre_hook(self._detach_query_key)
            layer.get_submodule(family.value).register_forward_pre_hook(self._detach_value)
            output = layer.get_submodule(family.output)
            output.register_forward_pre_hook(self._replace_context)
            output.register_forward_hook(self._replace_output)

    @contextmanager
    def during(self, point: InterventionPoint | None, teacher: AttentionRecord) -> Iterator[None]:
        """Intervene at `point` in the student's forward pass made inside the block."""
        self._point, self._teacher, self._fired = point, teacher, 0
        if point is InterventionPoint.ATTENTION_MAP:
            self._tap.replacements, self._tap.replaced = teacher.probabilities, 0
        try:
            yield
            self._require_all_fired()
        finally:
            self._point, self._teacher = None, AttentionRecord()
            self._tap.replacements = None

    def _require_all_fired(self) -> None:
        if self._point is None:
            return
        fired = self._tap.replaced if self._point is InterventionPoint.ATTENTION_MAP else self._fired
        if fired != self._tap.calls:
            raise UnsupportedModelError(
                f"intervention at {self._point}: expected {self._tap.calls} layers, reached {fired}"
            )

    def _detach_query_key(self, module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        return (args[0].detach(),) if self._point is not None else None

    def _detach_value(self, module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        # Under TI-M the values still form the context, so their input keeps its gradient.
        return (args[0].detach(),) if self._point in (InterventionPoint.CONTEXT, InterventionPoint.OUTPUT) else None

    # Calls are counted, not modules: layers may share one.
    def _replace_context(self, module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        if self._point is not InterventionPoint.CONTEXT:
            return None
        self._fired += 1
        return (self._teacher.context[self._fired - 1],)

    def _replace_output(self, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        if self._point is not InterventionPoint.OUTPUT:
            return None
        self._fired += 1
        return self._teacher.output[self._fired - 1]
