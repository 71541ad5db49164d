"""docs/accelerator.md says what the model assumes and names every field."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwsim.config import Accelerator
from hwsim.estimate import ASSUMPTIONS

PAGE = " ".join((Path(__file__).parents[2] / "docs" / "accelerator.md").read_text(encoding="utf-8").split())


@pytest.mark.parametrize("assumption", ASSUMPTIONS)
def test_every_assumption_is_a_bullet(assumption: str) -> None:
    assert f"* {assumption}" in PAGE


@pytest.mark.parametrize("field", Accelerator.model_fields)
def test_every_field_is_described(field: str) -> None:
    assert f"`{field}`" in PAGE or f"`[{field}]`" in PAGE
