"""The Trainer of the student: distillation while the teacher intervenes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ti_qat.config import Precision, StudentConfig
from ti_qat.method.distillation import DistillationLoss, Observation, distillation_loss
from ti_qat.method.intervention import AttentionRecorder, TeacherIntervention
from ti_qat.method.schedules import GradualLambda, Schedule, phase
from ti_qat.quantization.layers import set_blend
from ti_qat.training.trainer import ResumableTrainer


class InterventionTrainer(ResumableTrainer):
    """Distils the teacher into the student while the teacher intervenes where the schedule says.

    With `gradual_lambda` the student is quantised little by little; its scores are always those of what is
    deployed, the whole quantisation.
    """

    def __init__(
        self,
        *,
        teacher: PreTrainedModel,
        schedule: Schedule,
        gradual_lambda: GradualLambda | None = None,
        model: Any,
        config: StudentConfig,
        **rest: Any,
    ) -> None:
        super().__init__(model=model, config=config, **rest)
        self._student = model
        self._teacher = teacher.to(self.args.device).eval().requires_grad_(False)
        self._schedule, self._gradual_lambda, self._settings = schedule, gradual_lambda, config
        self._teacher_recorder, self._student_recorder = AttentionRecorder(self._teacher), AttentionRecorder(model)
        self._intervention = TeacherIntervention(model)
        self._sums: dict[str, Tensor] = {}
        self._summed_steps = 0
        self._last_summed_step = -1

    def loss_of(self, model: nn.Module, inputs: dict[str, Tensor], *args: Any, **kwargs: Any) -> Any:
        """Return the distillation loss while training, the plain loss while evaluating."""
        step = self.state.global_step
        if not model.training:
            return super().loss_of(model, inputs, *args, **kwargs)
        if self._gradual_lambda is not None:
            # From the step alone, so that a resumed run goes on with the lambda of the uninterrupted one.
            set_blend(self._student, self._gradual_lambda.share(step))
        values = {name: tensor for name, tensor in inputs.items() if name != "labels"}
        values["output_hidden_states"] = self._settings.hidden_weight > 0
        # Not inference_mode: the teacher's values enter the student's pass, and autograd must keep them.
        with torch.no_grad(), self._teacher_precision(), self._teacher_recorder.recording() as teacher:
            target = self._teacher(**values)
        for recorded in vars(teacher).values():
            recorded[:] = [value.float() for value in recorded]  # the student computes in float32

        def loss_from(module: nn.Module, args: Any, output: Any) -> Tensor:
            student.require_layers(len(teacher.scores))
            loss = distillation_loss(
                self._settings,
                Observation(output.logits, output.hidden_states or (), student),
                Observation(target.logits.float(), target.hidden_states or (), teacher),
                inputs,
                causal=self._causal,
                share=self.share,
            )
            self._add(loss, step)
            return loss.total

        with (
            self._student_recorder.recording() as student,
            self._intervention.during(self._schedule.point(step), teacher),
            _forward_hook(self._student, loss_from),
        ):
            # The loss is what the call returns: parallel wrappers look there for the parameters in use, and
            # under intervention some are reached by the recorded attention alone.
            return model(**values)

    def _teacher_precision(self) -> torch.autocast:
        is_bfloat16 = self._settings.precision is Precision.BFLOAT16
        return torch.autocast(self.args.device.type, torch.bfloat16, enabled=is_bfloat16)

    def _add(self, loss: DistillationLoss, step: int) -> None:
        """Add the terms of a part of `step`'s batch to what the next entry of the log shows."""
        for name, term in loss.terms.items():
            # Kept as tensors: reading a number waits for the device, and every step would.
            self._sums[name] = self._sums[name] + term.detach() if name in self._sums else term.detach()
        self._summed_steps += step != self._last_summed_step
        self._last_summed_step = step

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the terms of the loss, means since the last entry over all processes, and the intervention."""
        if "loss" in logs and self._summed_steps:
            sums = self.accelerator.reduce(torch.stack(list(self._sums.values())), reduction="mean")
            means = (sums / self._summed_steps).tolist()
            logs |= {f"loss_{name}": mean for name, mean in zip(self._sums, means, strict=True)}
            logs["intervention"] = phase(self._schedule, self.state.global_step - 1)
            if self._gradual_lambda is not None:
                logs["lambda"] = self._gradual_lambda.share(self.state.global_step - 1)
            self._sums = {}
            self._summed_steps = 0
        super().log(logs, start_time)


@contextmanager
def _forward_hook(module: nn.Module, hook: Callable[..., Any]) -> Iterator[None]:
    """Let `hook` replace what `module` returns for the duration of the block."""
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
