"""docs/training.md keeps up with the settings, methods and quantisers that it lists."""

import re
from enum import StrEnum
from pathlib import Path

import pytest

from ti_qat.config import ActivationGranularity, ActivationRange, StudentConfig, TeacherConfig, WeightQuantizer
from ti_qat.schedules import Method

REPOSITORY = Path(__file__).parents[2]
ROWS = {
    cells[0].strip("`"): cells
    for line in (REPOSITORY / "docs" / "training.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| `")
    for cells in [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]]
}


@pytest.mark.parametrize(("config", "column"), [(TeacherConfig, 1), (StudentConfig, 2)])
def test_every_setting_is_listed_with_its_default(config, column):
    for name, field in config.model_fields.items():
        default = field.default.value if isinstance(field.default, StrEnum) else repr(field.default)
        assert ROWS[name][column] == f"`{default}`", name
        assert ROWS[name][3], name


def test_every_listed_setting_exists():
    settings = [cells for cells in ROWS.values() if len(cells) == 5]
    assert {cells[0].strip("`") for cells in settings} == {*TeacherConfig.model_fields, *StudentConfig.model_fields}
    assert {cells[0].strip("`") for cells in settings if cells[1] == "-"} == (
        StudentConfig.model_fields.keys() - TeacherConfig.model_fields.keys()
    )


@pytest.mark.parametrize("name", [*Method, *WeightQuantizer, *ActivationGranularity, *ActivationRange])
def test_every_method_and_quantizer_is_listed(name):
    assert len(ROWS[name]) >= 3


@pytest.mark.parametrize("page", ["README.md", "docs/configuration.md"])
@pytest.mark.parametrize("method", list(Method))
def test_the_short_lists_name_every_method(page, method):
    assert f"`{method}`" in (REPOSITORY / page).read_text(encoding="utf-8")
