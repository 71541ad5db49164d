"""Area: circuits counted by hand times the tables' rows."""

from __future__ import annotations

from typing import Any

import pytest

from hwsim.config import Accelerator, Profile, preset_names, read_accelerator
from hwsim.design import BERT_BASE, evaluate_design
from hwsim.energy.area import area_mm2
from hwsim.units import gelu, integer_gelu
from hwsim.units.actions import Action
from hwsim.widths import Approximation, FixedWidths


def accelerator(**changes: Any) -> Accelerator:
    tables = ("logic_45nm", "sram_45nm_lop", "dram_lpddr4")
    return read_accelerator("phone").model_copy(update={"energy_tables": tables, **changes})


def test_the_array_is_counted_by_hand() -> None:
    """An int8 MAC of 751.2 um2, a ternary product of 33.5 and 16 register bits of 5.98, in every element."""
    array = area_mm2(accelerator(array_rows=3, array_columns=5))["array"]
    assert array == pytest.approx(15 * (751.2 + 33.5 + 16 * 5.98) * 1e-6)
    narrow = area_mm2(accelerator(array_rows=3, array_columns=5, accumulator_bits=16))["array"]
    # Netlists of the ternary MAC: 290.7 um2 with an accumulator of 24 bits, 194.2 with one of 16.
    assert array - narrow == pytest.approx(15 * (290.7 - 194.2) * 1e-6, rel=1e-3)


def test_a_lane_has_what_its_most_demanding_operation_takes() -> None:
    one = area_mm2(accelerator(vector_lanes=1))["vector_units"]
    multiplies = gelu.gelu_actions(1)[Action.FLOAT32_MULTIPLY]
    assert one >= multiplies * 8970e-6
    assert area_mm2(accelerator(vector_lanes=7))["vector_units"] == pytest.approx(7 * one)


def test_integer_lanes_are_smaller_and_tables_take_their_place() -> None:
    one = accelerator(vector_lanes=1)
    polynomial = FixedWidths(gelu=Approximation.POLYNOMIAL)
    exact, fixed = (area_mm2(one, widths)["vector_units"] for widths in (None, polynomial))
    assert fixed < exact / 4
    counts = integer_gelu.actions(1, Approximation.POLYNOMIAL)
    tanh_table = 256 * 3 / 8192 * 0.02628  # 256 entries of 24 bits, as dense as a macro of 8 KB
    words = counts[Action.WORD_OPERATION]
    softmax_words = 11
    assert fixed == pytest.approx((4 * 6350 + max(words, softmax_words) * 278) * 1e-6 + tanh_table)
    tabled = FixedWidths(gelu=Approximation.TABLE, table_entries=16)
    two_small_tables = 2 * 16 * 3 / 8192 * 0.02628
    circuits = (3 * 6350 + softmax_words * 278) * 1e-6  # LayerNorm and softmax multiply thrice
    found = area_mm2(one, tabled)["vector_units"]
    assert found == pytest.approx(circuits + two_small_tables)


@pytest.mark.parametrize(
    ("size_bytes", "mm2"),
    [(64, 0.02628), (8192, 0.02628), (16384, 0.11194), (1 << 20, 3.263), (5 << 20, 5 * 3.263)],
)
def test_a_buffer_takes_the_macro_that_holds_it_or_its_size_in_largest_ones(size_bytes: int, mm2: float) -> None:
    found = area_mm2(accelerator(activation_buffer_bytes=size_bytes))["activation_buffer"]
    assert found == pytest.approx(mm2, rel=1e-3)


@pytest.mark.parametrize("preset", preset_names())
def test_components_sum_to_the_design_points_area(preset: str) -> None:
    chosen = read_accelerator(preset)
    for profile in Profile:
        parts = area_mm2(chosen, chosen.widths_of(profile))
        assert set(parts) == {"array", "output_stage", "vector_units", "weight_buffer", "activation_buffer"}
        assert all(area > 0 for area in parts.values())
        assert evaluate_design(BERT_BASE, chosen, 16, 0.6, profile=profile).area_mm2 == pytest.approx(
            sum(parts.values())
        )
