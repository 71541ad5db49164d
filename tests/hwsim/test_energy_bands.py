"""The band around an energy figure: which causes move which figures, and how far."""

from __future__ import annotations

import fnmatch
from math import prod

import pytest

from hwsim.config import preset_names, read_accelerator
from hwsim.design import BERT_BASE, evaluate_design
from hwsim.energy import bands
from hwsim.energy.bands import energy_band, energy_range_pj, spreads_of
from hwsim.energy.prices import prices, row_name
from hwsim.energy.tables import read_tables, table_names
from hwsim.units.actions import Action

LPDDR4 = {"energy_tables": ("logic_45nm", "sram_45nm_lop", "dram_lpddr4")}


def test_a_band_worked_out_by_hand() -> None:
    """1000 int8 MACs at 45 nm (1.21 pJ, glitches 2.7, clock and wires 1.67) and 100 bits of LPDDR4 (8 to 40 pJ)."""
    price = prices(read_accelerator("phone").model_copy(update=LPDDR4))
    band = energy_band({Action.INT8_MAC: 1000, Action.DRAM_READ_BIT: 100}, price)
    assert (band.low_pj, band.nominal_pj) == pytest.approx((2010.0, 2010.0))
    assert band.high_pj == pytest.approx(1210 * 2.7 * 1.67 + 4000)
    assert [cause.cause for cause in band.causes] == ["DRAM", "glitches", "clock tree and wires"]  # widest first
    alone = {cause.cause: (cause.low_pj, cause.high_pj) for cause in band.causes}
    assert alone["DRAM"] == pytest.approx((2010, 2010 + 3200))
    assert alone["glitches"] == pytest.approx((2010, 2010 + 1210 * 1.7))
    assert all(cause.source and cause.note for cause in band.causes)


def test_what_is_not_spent_has_no_cause() -> None:
    price = prices(read_accelerator("phone"))
    band = energy_band({Action.DRAM_READ_BIT: 8, Action.INT8_MAC: 0}, price)
    assert [cause.cause for cause in band.causes] == ["DRAM"]
    empty = energy_band({}, price)
    assert (empty.low_pj, empty.nominal_pj, empty.high_pj, empty.causes) == (0, 0, 0, ())


@pytest.mark.parametrize("preset", preset_names())
def test_every_price_is_uncertain_and_its_band_holds_it(preset: str) -> None:
    for action, price in prices(read_accelerator(preset)).items():
        assert price.spreads, action
        assert price.low_pj <= price.pj <= price.high_pj
        assert price.low_pj < price.high_pj
        assert price.high_pj == pytest.approx(price.pj * prod(spread.high for spread in price.spreads))
        assert len({spread.cause for spread in price.spreads}) == len(price.spreads), "a cause counted twice"


@pytest.mark.parametrize("table", table_names())
def test_every_row_of_the_package_is_uncertain(table: str) -> None:
    [read] = read_tables([table], table)
    assert [row.action for row in read.rows if not list(spreads_of(read, row.action))] == []


def test_scaled_logic_knows_its_node_and_what_was_measured_does_not_ask() -> None:
    scaled, measured = (
        prices(read_accelerator("phone").model_copy(update={"energy_tables": (logic, "sram_22nm_lop", "dram_lpddr4")}))
        for logic in ("logic_7nm", "logic_45nm")
    )
    causes = {spread.cause: spread for spread in scaled[Action.TERNARY_MAC_NONZERO].spreads}
    assert causes["node scaling"].high == 2.45
    # ASAP7's own netlist, 0.051 pJ a ternary MAC without zeros, is within the band of what the rule makes of 45 nm.
    assert scaled[Action.TERNARY_MAC_NONZERO].pj < 0.051
    assert scaled[Action.TERNARY_MAC_NONZERO].pj * causes["node scaling"].high == pytest.approx(0.051, rel=0.01)
    assert "node scaling" not in {spread.cause for spread in measured[Action.TERNARY_MAC_NONZERO].spreads}


def test_every_factor_fits_a_table_and_an_action() -> None:
    names = {row_name(action) for action in Action}
    for cause in bands._known_causes():
        for factor in cause.factors:
            assert all(fnmatch.filter(table_names(), pattern) for pattern in factor.tables), (
                cause.cause,
                factor.tables,
            )
            assert all(fnmatch.filter(names, pattern) for pattern in factor.actions), (cause.cause, factor.actions)


def test_a_design_point_has_the_ends_of_its_band() -> None:
    phone = read_accelerator("phone")
    point = evaluate_design(BERT_BASE, phone, 128, 0.6)
    assert point.energy_low_pj < point.energy_pj < point.energy_high_pj
    other = evaluate_design(
        BERT_BASE, phone.model_copy(update={"energy_tables": ("logic_22nm", "sram_22nm_lop", "dram_hbm2")}), 128, 0.6
    )
    assert other.energy_high_pj - other.energy_low_pj < point.energy_high_pj - point.energy_low_pj


def test_ends_are_sums_of_the_prices_ends() -> None:
    price = prices(read_accelerator("phone"))
    actions = dict.fromkeys(Action, 3.0)
    low, high = energy_range_pj(actions, price)
    band = energy_band(actions, price)
    # 1e-12: the same products in binary64, added in another order.
    assert (band.low_pj, band.high_pj) == pytest.approx((low, high), rel=1e-12)
    assert min(cause.low_pj for cause in band.causes) >= band.low_pj
    assert max(cause.high_pj for cause in band.causes) <= band.high_pj
