"""The Trainer of the student: distillation while the teacher intervenes."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ti_qat.config import StudentConfig
from ti_qat.distillation import transformer_loss
from ti_qat.intervention import AttentionRecorder, TeacherIntervention
from ti_qat.optimizers import student_optimizer
from ti_qat.schedules import Schedule, phase
from ti_qat.training import ResumableTrainer


class InterventionTrainer(ResumableTrainer):
    """Distils the teacher into the student while the teacher intervenes where the schedule says."""

    def __init__(
        self,
        *,
        teacher: PreTrainedModel,
        schedule: Schedule,
        model: Any,
        config: StudentConfig,
        **rest: Any,
    ) -> None:
        super().__init__(model=model, config=config, optimizer=student_optimizer(model, config), **rest)
        self._teacher = teacher.to(self.args.device).eval().requires_grad_(False)
        self._schedule = schedule
        self._teacher_recorder, self._student_recorder = AttentionRecorder(self._teacher), AttentionRecorder(model)
        self._intervention = TeacherIntervention(model)
        self._sums: dict[str, float] = defaultdict(float)
        self._summed_steps = 0

    def loss_of(self, model: nn.Module, inputs: dict[str, Tensor], *args: Any, **kwargs: Any) -> Any:
        """Return L_trm while training, the plain loss while evaluating."""
        if not model.training:
            return super().loss_of(model, inputs, *args, **kwargs)
        values = {name: tensor for name, tensor in inputs.items() if name != "labels"}
        with torch.no_grad(), self._teacher_recorder.recording() as teacher:
            target = self._teacher(**values, output_hidden_states=True)
        point = self._schedule.point(self.state.global_step)
        with self._student_recorder.recording() as student, self._intervention.during(point, teacher):
            output = model(**values, output_hidden_states=True)
        loss = transformer_loss(
            output.hidden_states,
            target.hidden_states,
            student.scores,
            teacher.scores,
            output.logits,
            target.logits,
            inputs["attention_mask"],
        )
        for name in ("hidden", "attention", "logits"):
            self._sums[f"loss_{name}"] += getattr(loss, name).item()
        self._summed_steps += 1
        return loss.total

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the terms of the loss, means since the last entry, and the point of intervention."""
        if "loss" in logs and self._summed_steps:
            logs |= {name: total / self._summed_steps for name, total in self._sums.items()}
            logs["intervention"] = phase(self._schedule, self.state.global_step - 1)
            self._sums.clear()
            self._summed_steps = 0
        super().log(logs, start_time)
