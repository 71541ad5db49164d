"""Presets: settings that go together, below those that are given explicitly. docs/training.md has the sources."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any


class Preset(StrEnum):
    """Where the settings start from."""

    CLEAN = "clean"  # the defaults
    REPRO = "repro"  # the public code of the teacher intervention paper


# What its example of BERT on GLUE states, to which the paper's README sends for the teacher.
_TEACHER: dict[str, Any] = {
    "epochs": 3.0,
    "batch_size": 32,
    "learning_rate": 2e-5,
    "warmup_fraction": 0.0,
    "weight_decay": 0.0,
    "max_length": 128,
}
_TEACHER_OF_TASK: dict[str, dict[str, Any]] = {
    "cola": {"max_length": 64},
    "sst2": {"max_length": 64},
    "mrpc": {"epochs": 5.0},
    "wnli": {"epochs": 5.0},
}

_STUDENT: dict[str, Any] = {
    "epochs": 3.0,
    "batch_size": 32,
    "learning_rate": 2e-5,
    "warmup_fraction": 0.1,
    "weight_decay": 0.01,
    "adam_epsilon": 1e-6,
    "adam_bias_correction": False,
    "max_gradient_norm": 1.0,
    "gradient_clipping": "per_parameter",
    "weight_quantizer": "twn",
    "weight_bits": 2,
    "weight_clip": 2.5,
    "linear_weights": "per_tensor",
    "word_embedding": "per_row",
    "activations": "dynamic_per_tensor",
    "activation_bits": 8,
    "activation_clip": 2.5,
    "hidden_weight": 1.0,
    "attention_scores_weight": 1.0,
    "attention_map_weight": 0.0,
    "attention_output_weight": 1.0,
    "logits_weight": 1.0,
    "labels_weight": 0.0,
    "mask_padding": False,
    "pad_to_max_length": True,
    "intervention_steps": 60,
    "restart_after_intervention": True,
    "dropout": 0.1,
    "exportable": False,
}
_STUDENT_OF_TASK: dict[str, dict[str, Any]] = {"cola": {"batch_size": 16, "intervention_steps": 120}}


def preset_settings(given: Mapping[str, object], fields: Mapping[str, Any], task_name: str) -> dict[str, Any]:
    """Return the settings of the preset among those `given`, for a model with `fields`, on a GLUE task or any other.

    A student is told from a teacher by its fields: the length of texts is the teacher's to set. What is no
    preset has no settings; whoever validates `preset` says so.
    """
    if given.get("preset") != Preset.REPRO:
        return {}
    if "max_length" in fields:
        return _TEACHER | _TEACHER_OF_TASK.get(task_name, {})
    student = _STUDENT | _STUDENT_OF_TASK.get(task_name, {})
    if "intervention_fraction" in given:
        del student["intervention_steps"]  # it would win over the fraction that was asked for
    return student
