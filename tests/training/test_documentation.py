"""docs/training.md keeps up with the settings, methods and quantisers that it lists."""

import re
from enum import StrEnum
from pathlib import Path

import pytest

from ti_qat.artifact.schema import Granularity
from ti_qat.config import (
    ActivationGranularity,
    ActivationRange,
    GradientClipping,
    LogitScaling,
    Precision,
    StudentConfig,
    TeacherConfig,
    WeightQuantizer,
)
from ti_qat.method.schedules import Method
from ti_qat.models.families import FAMILIES
from ti_qat.presets import Preset

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "training.md").read_text(encoding="utf-8")


def rows(section):
    """The table rows of a section by what they are about: the same name may have one in several sections."""
    text = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    lines = (line for line in text.splitlines() if line.startswith("| `"))
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return {name: row for row in cells for name in re.findall("`([^`]+)`", row[0])}


SETTINGS = rows("Settings")


@pytest.mark.parametrize(("config", "column"), [(TeacherConfig, 1), (StudentConfig, 2)])
def test_every_setting_is_listed_with_its_default(config, column):
    for name, field in config.model_fields.items():
        default = field.default.value if isinstance(field.default, StrEnum) else repr(field.default)
        assert SETTINGS[name][column] == f"`{default}`", name
        assert SETTINGS[name][3], name


def test_every_listed_setting_exists():
    assert SETTINGS.keys() == {*TeacherConfig.model_fields, *StudentConfig.model_fields}
    assert {name for name, row in SETTINGS.items() if row[1] == "-"} == (
        StudentConfig.model_fields.keys() - TeacherConfig.model_fields.keys()
    )


@pytest.mark.parametrize(
    ("section", "members"),
    [
        ("Methods", list(Method)),
        ("Weight quantisers", list(WeightQuantizer)),
        ("Activation quantisers", [*ActivationGranularity, *ActivationRange]),
        ("Model families", list(FAMILIES)),
    ],
)
def test_every_method_quantizer_and_family_has_a_row_and_every_row_is_of_one(section, members):
    assert set(rows(section)) == set(members)


@pytest.mark.parametrize(
    ("setting", "values"),
    [
        ("precision", Precision),
        ("gradient_clipping", GradientClipping),
        ("logit_scaling", LogitScaling),
        ("linear_weights", Granularity),
    ],
)
def test_the_row_of_a_setting_names_its_values(setting, values):
    assert all(f"`{value}`" in " ".join(SETTINGS[setting]) for value in values)


@pytest.mark.parametrize("preset", list(Preset))
def test_every_preset_is_described(preset):
    assert f"`{preset}` is " in PAGE


@pytest.mark.parametrize("page", ["README.md", "docs/configuration.md"])
@pytest.mark.parametrize("method", list(Method))
def test_the_short_lists_name_every_method(page, method):
    assert f"`{method}`" in (REPOSITORY / page).read_text(encoding="utf-8")
