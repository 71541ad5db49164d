"""The processes of one run: one, or those that `torchrun` or `accelerate launch` has started."""

from __future__ import annotations

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env

from ti_qat.errors import ConfigurationError

# What a launcher sets where each process is to hold a part of the model only.
_SHARDED = {"ACCELERATE_USE_FSDP": "FSDP", "ACCELERATE_USE_DEEPSPEED": "DeepSpeed"}


def on_cpu() -> bool:
    """Return whether the run computes on the CPU: no accelerator is there, or the launcher was told `--cpu`."""
    return not torch.accelerator.is_available() or parse_flag_from_env("ACCELERATE_USE_CPU")


def processes() -> PartialState:
    """Return the run's processes, joined at the first call; alone, this is the main process."""
    return PartialState(cpu=on_cpu())


def require_whole_models() -> None:
    """Raise `ConfigurationError` where the launcher would split the model: nobody would gather what is written."""
    for variable, name in _SHARDED.items():
        if parse_flag_from_env(variable):
            raise ConfigurationError(f"accelerate: expected DDP, whole models in every process, found {name}")
