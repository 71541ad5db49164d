"""Tables: each figure in one place, other nodes by rule, files of the user's own checked and preferred."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwsim.config import read_accelerator
from hwsim.energy.area import area_mm2
from hwsim.energy.prices import prices
from hwsim.energy.scaling import Point, Polynomial, logic_area_factor, logic_energy_factor
from hwsim.energy.tables import Row, read_tables, table_names
from hwsim.errors import SimulatorError
from hwsim.units.actions import Action

OWN = """description = "ours"
[[rows]]
action = "int8_mac"
value = 0.5
unit = "pJ"
source = "our chip"
note = ""
"""


def rows_of(table: str, part: str = "rows") -> dict[tuple[str, int | None], Row]:
    (found,) = read_tables([table], "test")
    return {(row.action, row.capacity_bytes): row for row in getattr(found, part)}


def test_the_polynomials_are_those_of_the_authors_corrigendum() -> None:
    """Section 4.2.1: 1 pJ at 65 nm and 1.3 V is 0.1755 pJ at 0.9 V. Its target is a row that we do not use."""
    target = Polynomial(0.8367, -0.4341, 0.1701).at(0.9)
    assert target == pytest.approx(0.4571, abs=5e-5)  # as printed, to four digits
    at_32_nm = logic_energy_factor(Point(65, 1.3), Point(32, 0.9))
    ours = Polynomial(0.9559, -0.7823, 0.471).at(0.9)
    start = ours / at_32_nm
    assert start == pytest.approx(2.604, abs=5e-4)
    assert target / start == pytest.approx(0.1755, abs=1e-4)  # they cut 0.17558 off


@pytest.mark.parametrize(
    ("start", "target", "factor"),
    [
        (Point(45, 1.1), Point(28, 0.9), 0.353),
        (Point(45, 1.1), Point(22, 0.8), 0.168),
        (Point(45, 1.1), Point(16, 0.8), 0.099),
        (Point(45, 1.1), Point(7, 0.7), 0.039),
        (Point(45, 0.9), Point(22, 0.8), 0.241),
        (Point(45, 0.9), Point(45, 0.9), 1.0),
    ],
)
def test_factors_worked_out_by_hand(start: Point, target: Point, factor: float) -> None:
    assert logic_energy_factor(start, target) == pytest.approx(factor, abs=5e-4)


@pytest.mark.parametrize("node_nm", [6, 131])
def test_nodes_beyond_the_rule_are_refused(node_nm: int) -> None:
    with pytest.raises(ValueError, match=f"{node_nm} nm is not between 7 and 130"):
        logic_energy_factor(Point(45, 1.1), Point(node_nm, 0.8))
    with pytest.raises(ValueError, match="not between"):
        logic_area_factor(45, node_nm)


def test_scaled_prices_are_those_that_the_22_nm_table_once_held() -> None:
    """Those were products with a factor of three digits: 0.168 and 0.241."""
    held = {
        "ternary_mac_nonzero": 0.08887, "ternary_mac_zero": 0.05006, "int8_mac": 0.2033, "float32_add": 0.2169,
        "operand_register_bit": 0.002169, "float32_multiply": 0.8917, "word_operation": 0.0241,
        "int32_multiply": 0.7471,
    }  # fmt: skip
    found = rows_of("logic_22nm")
    assert {name: found[name, None].value for name in held} == pytest.approx(held, rel=2e-3)
    row = found["int8_mac", None]
    assert (row.node_nm, row.voltage_v) == (22, 0.8)
    assert row.note.startswith("1.21 pJ at 45 nm, 1.1 V, times 0.168; ")
    assert "Stillmaker" in row.source


@pytest.mark.parametrize("part", ["rows", "areas"])
def test_smaller_nodes_cost_less_and_take_less(part: str) -> None:
    logic = [rows_of(f"logic_{node}nm", part) for node in (45, 28, 22, 16, 7)]
    for action in logic[0]:
        values = [rows[action].value for rows in logic]
        assert values == sorted(values, reverse=True), action
        assert len(set(values)) == len(values), action


def test_sram_below_22_nm_goes_with_the_root_of_the_node_and_its_area_with_the_node() -> None:
    for part, factor in (("rows", (7 / 22) ** 0.5), ("areas", 7 / 22)):
        base, scaled = rows_of("sram_22nm_hp", part), rows_of("sram_7nm_hp", part)
        assert len(base) == len(scaled) > 0
        for what, row in base.items():
            assert scaled[what].value / row.value == pytest.approx(factor)


@pytest.mark.parametrize("table", table_names())
def test_every_figure_has_a_source_and_a_note(table: str) -> None:
    for row in (*rows_of(table).values(), *rows_of(table, "areas").values()):
        assert row.source
        assert row.note
        assert row.node_nm is not None or table.startswith("dram")


def test_a_narrower_accumulator_costs_less_in_the_measure_of_the_netlists() -> None:
    wide, narrow = (
        prices(read_accelerator("phone").model_copy(update={"accumulator_bits": bits, "energy_tables": tables}))
        for bits, tables in ((24, TABLES_45NM), (16, TABLES_45NM))
    )
    for action in (Action.TERNARY_MAC_NONZERO, Action.INT8_MAC):
        # The netlists: 0.481 pJ at 24 bits and 0.332 pJ at 16.
        assert wide[action].pj - narrow[action].pj == pytest.approx(0.481 - 0.332, abs=1e-3)
    assert wide[Action.FLOAT32_ADD].pj == narrow[Action.FLOAT32_ADD].pj


TABLES_45NM = ("logic_45nm", "sram_45nm_lop", "dram_lpddr4")


def with_own(tmp_path: Path, text: str, *, tables: tuple[str, ...] = TABLES_45NM) -> Path:
    """Write an accelerator beside a table of the user's, which it names from its own folder on."""
    (tmp_path / "own.toml").write_text(text)
    names = ", ".join(f'"{name}"' for name in (*tables, "own.toml"))
    preset = Path(__file__).parents[2] / "hwsim" / "configs" / "phone.toml"
    lines = [line for line in preset.read_text().splitlines() if not line.startswith("energy_tables")]
    (tmp_path / "mine.toml").write_text("\n".join([f"energy_tables = [{names}]", *lines]))
    return tmp_path / "mine.toml"


def test_a_table_of_ones_own_takes_the_place_of_the_packages_rows(tmp_path: Path) -> None:
    found = prices(read_accelerator(str(with_own(tmp_path, OWN))))
    assert (found[Action.INT8_MAC].pj, found[Action.INT8_MAC].row.source) == (0.5, "our chip")
    assert found[Action.INT8_MAC].spreads == ()  # what the package does not know of its own figures says nothing of it
    assert found[Action.TERNARY_MAC_NONZERO].pj == 0.529
    changed = OWN.replace("0.5", "0.75") + (
        '[[causes]]\ncause = "corner"\nnote = "slow to fast"\n'
        '[[causes.factors]]\nlow = 0.8\nhigh = 1.5\nsource = "signoff"\n'
    )
    found = prices(read_accelerator(str(with_own(tmp_path, changed))))
    price = found[Action.INT8_MAC]
    assert (price.pj, price.low_pj, price.high_pj) == pytest.approx((0.75, 0.6, 1.125))


def test_a_table_of_ones_own_that_scales_the_packages_is_as_uncertain(tmp_path: Path) -> None:
    scaled = 'description = "12 nm"\n[scaled]\ntable = "logic_45nm"\nrule = "stillmaker_baas"\nnode_nm = 12\n'
    tables = ("sram_45nm_lop", "dram_lpddr4")
    accelerator = with_own(tmp_path, scaled + 'voltage_v = 0.8\nsource = "?"\n', tables=tables)
    price = prices(read_accelerator(str(accelerator)))[Action.TERNARY_MAC_NONZERO]
    assert {spread.cause for spread in price.spreads} == {"glitches", "clock tree and wires"}
    assert price.low_pj == price.pj < price.high_pj


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("value = 0.5", "value = -0.5", r"own.toml: rows.0.value: .* found -0.5"),
        ("value = 0.5", "value = nan", r"own.toml: rows.0.value"),
        ('unit = "pJ"', 'unit = "mJ"', r"own.toml: rows.0.unit"),
        ('unit = "pJ"', 'unit = "pJ/bit"', r"own.toml: rows: .*found int8_mac in pJ/bit"),
        ('unit = "pJ"', 'unit = "um2"', r"own.toml: .*energies belong in rows"),
        ('"int8_mac"', '"int9_mac"', r"own.toml: rows: .*found int9_mac in pJ"),
        ('source = "our chip"', 'source = ""', r"own.toml: rows.0.source"),
        ('note = ""', 'note = ""\naccumulator_bits = 8', r"own.toml: .*belong together"),
        ('note = ""', 'note = ""\naccumulator_bits = 24\nper_accumulator_bit = 0.03', r"own.toml: .*below nothing"),
        ("[[rows]]", "[[rows]", r"own.toml: content: expected TOML"),
        ('"ours"', '"ours"\n[scaled]\ntable = "logic_22nm"\nrule = "square_root"\nnode_nm = 7\nsource = "?"',
         r"own.toml: scaled.table: expected a table of the package that is not itself scaled, found 'logic_22nm'"),
        ('"ours"', '"ours"\n[scaled]\ntable = "logic_45nm"\nrule = "stillmaker_baas"\nnode_nm = 5\nvoltage_v = 0.6\n'
         'source = "?"', r"own.toml: scaled \(ternary_mac_nonzero\): .*5 nm is not between"),
        ('"ours"', '"ours"\n[scaled]\ntable = "logic_45nm"\nrule = "stillmaker_baas"\nnode_nm = 7\nsource = "?"',
         r"own.toml: scaled \(ternary_mac_nonzero\): .*no voltage"),
    ],
)  # fmt: skip
def test_a_wrong_table_is_refused_by_file_and_field(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(SimulatorError, match=message):
        prices(read_accelerator(str(with_own(tmp_path, OWN.replace(old, new, 1)))))


def test_two_sram_tables_are_one_too_many(tmp_path: Path) -> None:
    tables = (*TABLES_45NM, "sram_45nm_hp")
    for asked in (prices, area_mm2):
        with pytest.raises(
            SimulatorError, match=r"phone: energy_tables: expected one table with rows sram.* of sram_\w+, sram_45nm_hp"
        ):
            asked(read_accelerator("phone").model_copy(update={"energy_tables": tables}))
