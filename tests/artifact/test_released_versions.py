"""Artifacts of every released version stay readable, and mean what they meant."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from ti_qat.artifact import io, reference
from ti_qat.artifact.encoder import execute

DATA = Path(__file__).parent.parent / "data"

# Folder: (identity of the artifact, SHA-256 of the logits of its whole evaluation split).
RELEASED = {
    "artifact_v1": (
        "64ec2bc41ccb039ce534d0baff528476fd6adbfaf3b57591f04445d482377013",
        "74f07b6480af3c3b5e9624c9482ec91258265779e1591dbba959edec7575ad03",
    ),
}


@pytest.mark.parametrize("folder", list(RELEASED))
def test_a_released_artifact_gives_the_same_bits(folder: str) -> None:
    artifact = io.load(DATA / folder)
    _, inputs = next(artifact.evaluation.batches(artifact.evaluation.rows))
    logits = execute(artifact.encoder, reference.KERNELS, artifact.parameters, inputs)
    assert (artifact.digest, hashlib.sha256(logits.tobytes()).hexdigest()) == RELEASED[folder]


def test_an_artifact_from_before_text_columns_leaves_them_unknown() -> None:
    assert io.load(DATA / "artifact_v1").header.task.text_columns is None


def test_an_artifact_from_before_teacher_logits_has_none() -> None:
    assert io.load(DATA / "artifact_v1").evaluation.teacher_logits is None
