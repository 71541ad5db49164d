"""A student packed to 2 bits a weight as a transformers checkpoint; what `ti-qat publish` does."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from ti_qat.artifact.atomic import whole_directory
from ti_qat.artifact.errors import OutputError
from ti_qat.errors import ConfigurationError, TrainingError
from ti_qat.models import model_directory
from ti_qat.models.model_directory import CONFIG_FILE, STUDENT_FILE, WEIGHTS_FILE
from ti_qat.quantization.packed_weights import pack
from ti_qat.sharing.model_card import write_card
from ti_qat.sharing.model_hub import inherited_metadata


@dataclass(frozen=True)
class PublishResult:
    """What was written, and what its weights take beside those of the student it was packed from."""

    path: str
    bytes: int
    student_bytes: int


def publish(student_dir: Path, out: Path) -> PublishResult:
    """Write the student at `student_dir` with packed weights to the directory `out`, whole or not at all.

    `from_pretrained` loads it as the same student to the bit, for inference; so do `ti-qat evaluate` and
    `ti-qat export`. Raises `TrainingError`, `ConfigurationError` or `OutputError`.
    """
    model = model_directory.load(student_dir)
    if model.student is None:
        raise TrainingError(f"{student_dir}: expected a student, found a teacher")
    bits = model.student.quantizers.weight_bits
    if bits != 2:
        raise ConfigurationError(f"weight_bits: packed codes are ternary, expected 2, found {bits}")
    _require_no_latent_student(out)
    pack(model.model)
    with whole_directory(out, STUDENT_FILE) as fresh:
        model_directory.save(fresh, model)
        write_card(fresh, out.name, model, inherited_metadata(str(student_dir)))
    sizes = [(directory / WEIGHTS_FILE).stat().st_size for directory in (out, student_dir)]
    return PublishResult(str(out), *sizes)


def _require_no_latent_student(out: Path) -> None:
    """Raise `OutputError` where `out` holds latent weights: packing cannot be undone."""
    config = out / CONFIG_FILE
    if config.exists():
        entry = json.loads(config.read_text(encoding="utf-8")).get("quantization_config", {})
        if not entry.get("packed", False):
            raise OutputError(f"{out}: holds a model that is not packed; choose another --out")
