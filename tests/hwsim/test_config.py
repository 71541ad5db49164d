"""Accelerator files: complete, closed, and refused by the name of the field."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwsim.config import _PRESETS, preset_names, read_accelerator
from hwsim.errors import SimulatorError

WEARABLE = (_PRESETS / "wearable.toml").read_text()


def test_presets_load_under_their_own_names() -> None:
    assert {"wearable", "phone"} <= set(preset_names())
    for name in preset_names():
        assert read_accelerator(name).name == name


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("array_rows = 16", "array_rows = 16\nturbo = true", "turbo: expected a known field"),
        ("array_rows = 16", "", "array_rows: .* found nothing"),
        ("array_rows = 16", "array_rows = 0", "array_rows: .* found 0"),
        ("array_rows = 16", 'array_rows = "16"', "array_rows: .* found '16'"),
        ('"output_stationary"', '"weights_wander"', "dataflow: .* found 'weights_wander'"),
        ("accumulator_bits = 24", "accumulator_bits = 64", "accumulator_bits: .* found 64"),
        ("weight_buffer_bytes = 65536", "weight_buffer_bytes = 64", "below two tiles"),
        ("clock_hz = 100e6", "clock_hz = nan", "clock_hz"),
        ("[", "[[", "expected TOML"),
        ("array_rows = 16", "array_rows = " + "9" * 5000, "expected TOML"),
        ("array_rows = 16", "array_rows = " + "[" * 5000, "expected TOML"),
        ("name =", "battery = {capacity_mah = 0.0, voltage_v = 3.0}\nname =", "battery.capacity_mah: .* found 0"),
        ("name =", "battery = {capacity_mah = 9.0}\nname =", "battery.voltage_v: .* found nothing"),
    ],
)
def test_a_wrong_field_is_refused_by_name(tmp_path: Path, old: str, new: str, message: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(WEARABLE.replace(old, new, 1))
    with pytest.raises(SimulatorError, match=message):
        read_accelerator(str(file))


def test_an_unknown_name_lists_the_presets() -> None:
    with pytest.raises(SimulatorError, match=", ".join(preset_names())):
        read_accelerator("toaster")
    with pytest.raises(SimulatorError, match="nothing of that name"):
        read_accelerator("toaster.toml")
