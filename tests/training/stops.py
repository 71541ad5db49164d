"""A run stopped inside its process: what of SIGKILL can be had without one."""

from ti_qat.training.trainer import ResumableTrainer


class KilledError(Exception):
    """Stands in for SIGKILL: nothing after it in the run gets to execute."""


def kill_at(monkeypatch, step):
    original = ResumableTrainer.compute_loss

    def compute_loss(self, model, *args, **kwargs):
        if model.training and self.state.global_step == step:
            raise KilledError
        return original(self, model, *args, **kwargs)

    monkeypatch.setattr(ResumableTrainer, "compute_loss", compute_loss)
