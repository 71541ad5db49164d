"""Our estimate beside published efficiencies: femtojoules a multiply-accumulate, and ratios; nothing is fitted.

An operation of a published figure is half a multiply-accumulate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click

from benchmarks.simulation.matrix_product import Cost, cost_of
from benchmarks.simulation.summary import merge_summary
from hwsim.config import Accelerator, read_accelerator
from hwsim.energy.area import area_mm2
from hwsim.energy.prices import Level, prices
from hwsim.schedule.memory import TERNARY_BITS
from hwsim.schedule.tiling import Product
from hwsim.units.actions import Action

INT8_BITS = 8
ARRAY = (Level.ARRAY,)
ON_CHIP = (Level.ARRAY, Level.WEIGHT_BUFFER, Level.ACTIVATION_BUFFER, Level.LEAKAGE)
# Eight lanes of a tree onto one 24-bit accumulator over a multiply-accumulate of its own, a lane: our netlists in
# Nangate45 at gate level, 33 % zero weights, ternary and int8.
SHARED_ACCUMULATOR = {TERNARY_BITS: 0.219 / 0.481, INT8_BITS: 0.910 / 1.21}
# BitNet b1.58 3B: multiply-accumulates of a token in 26 layers of 3200 and 8640, and over 32,002 words.
BITNET_3B_MACS = 26 * (4 * 3200**2 + 3 * 3200 * 8640) + 3200 * 32002
ITA_HZ = 500e6  # assumed: its area is published as TOPS/mm2


@dataclass(frozen=True)
class Published:
    """A published figure: what it is of, which levels of ours it covers, and known differences of the machine.

    `tree`: lanes share an accumulator, and no register moves operands from lane to lane. `volts` where it ran,
    if not where our table's node does (`table_volts`). `area_mm2` where one is published that covers as much.
    """

    design: str
    figure: str
    preset: str
    femtojoules_per_mac: float
    product: Product
    nonzero_fraction: float
    covers: tuple[Level, ...]
    tree: bool = True
    volts: float = 0.8
    table_volts: float = 0.8
    area_mm2: float | None = None


FIGURES = (
    Published("ITA", "16.9 TOPS/W, int8, standalone", "ita_like", 2e3 / 16.9,
              Product(64, 128, 192, INT8_BITS), 1.0, ARRAY, area_mm2=2 * 64 * 16 * ITA_HZ / 5.93e12),
    Published("VitaLLM", "65.97 mW at 70.70 tokens/s, BitNet 3B", "vitallm_like",
              65.97e12 / 70.70 / BITNET_3B_MACS,
              Product(1, 3200, 3200, TERNARY_BITS, streams_weights=True), 0.58, ON_CHIP, area_mm2=0.223),
    Published("Zymet, five trits a byte", "253.0 fJ a weight", "zymet_like", 253.007,
              Product(1, 2560, 5, TERNARY_BITS), 1 - 0.4387, ARRAY, volts=1.1, table_volts=1.1,
              area_mm2=1044.050e-6),
    Published("Zymet, bitmap", "288.5 fJ a weight", "zymet_like", 288.529,
              Product(1, 2560, 5, TERNARY_BITS), 1 - 0.4387, ARRAY, volts=1.1, table_volts=1.1,
              area_mm2=1099.644e-6),
    Published("BrainTTA, ternary", "67 fJ an operation", "braintta_like", 2 * 67.0,
              Product(128, 512, 512, TERNARY_BITS), 0.5, ON_CHIP),
    Published("BrainTTA, int8", "405 fJ an operation", "braintta_like", 2 * 405.0,
              Product(128, 512, 512, INT8_BITS), 1.0, ON_CHIP),
    Published("TCN-CUTIE", "1036 TOp/s/W, ternary by ternary", "cutie_like", 2e3 / 1036,
              Product(1024, 864, 96, TERNARY_BITS), 0.5, ON_CHIP, volts=0.5),
)  # fmt: skip


def known_factor(one: Published, cost: Cost, accelerator: Accelerator) -> float:
    """Return what the machine's known differences make of our estimate: a tree, no moving operands, its voltage."""
    array_pj = cost.energy_pj[Level.ARRAY]
    rest_pj = sum(cost.energy_pj[level] for level in one.covers) - array_pj
    if one.tree:
        price = prices(accelerator)[Action.OPERAND_REGISTER_BIT].pj
        registers_pj = cost.register_bits * price
        array_pj = (array_pj - registers_pj) * SHARED_ACCUMULATOR[one.product.weight_bits]
    whole_pj = sum(cost.energy_pj[level] for level in one.covers)
    return (array_pj + rest_pj) / whole_pj * (one.volts / one.table_volts) ** 2


def beside(one: Published) -> dict[str, Any]:
    """Return our estimates of a figure and their ratios to it."""
    accelerator = read_accelerator(one.preset)
    cost = cost_of(one.product, accelerator, one.nonzero_fraction)
    areas = area_mm2(accelerator)
    nominal, low, high = cost.femtojoules_per_mac(*one.covers)
    ratio = nominal / one.femtojoules_per_mac
    return {
        "design": one.design,
        "figure": one.figure,
        "preset": one.preset,
        "tables": ", ".join(accelerator.energy_tables),
        "covers": "array" if one.covers == ARRAY else "array and buffers",
        "published_fj_per_mac": one.femtojoules_per_mac,
        "array_fj_per_mac": cost.femtojoules_per_mac(*ARRAY)[0],
        "with_buffers_fj_per_mac": cost.femtojoules_per_mac(*ON_CHIP)[0],
        "low_fj_per_mac": low,
        "high_fj_per_mac": high,
        "published_mm2": one.area_mm2,
        "area_mm2": sum(areas.get(level.value, 0.0) for level in one.covers),
        "ours_over_published": ratio,
        "ours_over_published_known_differences_taken_out": ratio * known_factor(one, cost, accelerator),
    }


@click.command()
def main() -> None:
    """Print every figure with our estimate, and put them into summary.json."""
    rows = [beside(one) for one in FIGURES]
    click.echo(f"{'fJ a multiply-accumulate':28s} published    array  buffers   ratio  known differences taken out")
    for row in rows:
        click.echo(
            f"{row['design']:28s} {row['published_fj_per_mac']:9.1f} {row['array_fj_per_mac']:8.1f} "
            f"{row['with_buffers_fj_per_mac']:8.1f} {row['ours_over_published']:7.2f} "
            f"{row['ours_over_published_known_differences_taken_out']:7.2f}"
        )
    merge_summary(silicon=rows)


if __name__ == "__main__":
    main()
