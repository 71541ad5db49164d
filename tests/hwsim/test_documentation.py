"""docs/accelerator.md says what the model assumes and names every field; docs/energy.md every table and cause."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hwsim.config import Accelerator, parse_toml, read_accelerator
from hwsim.energy import bands
from hwsim.energy.accelergy import AccelergyMapping
from hwsim.energy.area import area_mm2
from hwsim.energy.tables import TableFile, table_names
from hwsim.estimate import ASSUMPTIONS

DOCS = Path(__file__).parents[2] / "docs"
PAGE = " ".join((DOCS / "accelerator.md").read_text(encoding="utf-8").split())
ENERGY_PAGE = (DOCS / "energy.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("assumption", ASSUMPTIONS)
def test_every_assumption_is_a_bullet(assumption: str) -> None:
    assert f"* {assumption}" in PAGE


@pytest.mark.parametrize("field", Accelerator.model_fields)
def test_every_field_is_described(field: str) -> None:
    assert f"`{field}`" in PAGE or f"`[{field}]`" in PAGE


def test_every_table_cause_and_component_is_described() -> None:
    described = {re.sub(r"^sram_\d+nm_\w+$", "sram_NNnm_CELL", name) for name in table_names()}
    for name in (*described, *area_mm2(read_accelerator("phone"))):
        assert f"`{name}`" in ENERGY_PAGE
    for cause in bands._known_causes():
        assert f"| {cause.cause} |" in ENERGY_PAGE


def test_the_examples_of_a_table_and_of_a_mapping_are_valid(tmp_path: Path) -> None:
    scaled, table, mapping = re.findall(r"```toml\n(.*?)```", ENERGY_PAGE, flags=re.DOTALL)
    for text, model in ((f'description = ""\n{scaled}', TableFile), (table, TableFile), (mapping, AccelergyMapping)):
        (tmp_path / "example.toml").write_text(text)
        assert parse_toml(tmp_path / "example.toml", model)
