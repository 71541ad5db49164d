"""docs/validation.md shows the figures of the last runs, and those say what it claims."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from benchmarks.simulation.silicon import FIGURES, beside
from benchmarks.simulation.summary import FILE
from benchmarks.simulation.validation_page import PAGE, fill
from benchmarks.simulation.zigzag_check import NONZERO_FRACTION, all_cases, cost_of

SUMMARY: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
TEXT = PAGE.read_text(encoding="utf-8")


def test_its_tables_are_those_of_the_summary_to_the_digits_shown() -> None:
    assert len(re.findall(r"<!-- \w+: written by", TEXT)) == TEXT.count("<!-- end -->") == 5
    assert fill(TEXT, SUMMARY) == TEXT


def test_a_figure_that_changes_changes_the_page() -> None:
    changed = json.loads(json.dumps(SUMMARY))
    changed["zigzag"][0]["ours_over_zigzag"]["dram"] += 0.01
    changed["silicon"][0]["ours_over_published"] += 0.01
    lines = zip(TEXT.splitlines(), fill(TEXT, changed).splitlines(), strict=True)
    assert sum(one != other for one, other in lines) == 2


def test_others_cycles_and_tables_are_reproduced_in_every_case() -> None:
    assert SUMMARY["scalesim_cases"] >= 150
    assert SUMMARY["cacti_rows"] > 0
    for name in ("scalesim_cycle_mismatches", "zigzag_array_cycle_mismatches", "cacti_row_mismatches"):
        assert SUMMARY[name] == 0


@pytest.mark.parametrize(("case", "row"), list(zip(all_cases(), SUMMARY["zigzag"], strict=True)))
def test_our_side_of_zigzag_is_what_the_simulator_says_today(case: Any, row: dict[str, Any]) -> None:
    assert (row["preset"], row["dataflow"], row["shape"]) == (
        case.accelerator.name,
        case.accelerator.dataflow.value,
        case.shape,
    )
    assert cost_of(case.product, case.accelerator, NONZERO_FRACTION).cycles == row["cycles"]


@pytest.mark.parametrize(("figure", "row"), list(zip(FIGURES, SUMMARY["silicon"], strict=True)))
def test_the_estimate_of_a_published_design_is_what_the_simulator_says_today(figure: Any, row: dict[str, Any]) -> None:
    today = beside(figure)
    numbers = {name for name, value in row.items() if isinstance(value, float)}
    assert {name: today[name] for name in row.keys() - numbers} == {name: row[name] for name in row.keys() - numbers}
    # 1e-9: the same products in binary64, perhaps added in another order.
    assert [today[name] for name in numbers] == pytest.approx([row[name] for name in numbers], rel=1e-9)
    assert figure.design.split(",")[0] in TEXT
