"""One matrix product on an accelerator, costed by the simulator's own parts: what others are compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil

from hwsim.config import Accelerator
from hwsim.energy.prices import Level, counted_actions, energy_by_level_pj, prices
from hwsim.schedule.memory import TERNARY_BITS, Demand, Traffic, traffic
from hwsim.schedule.pipeline import Pipeline
from hwsim.schedule.tiling import Product, Tiling
from hwsim.schedule.tiling_search import best_plan
from hwsim.schedule.workload import Unit, Work
from hwsim.units import int8_mac, ternary_mac
from hwsim.units.actions import Action
from ti_qat.artifact.encoder import Gemm, Operation, OpKind


@dataclass(frozen=True)
class Cost:
    """Cycles, bytes and picojoules of one product.

    `compute_cycles` are the array's, without waiting; `register_bits` what operands pass through in it. Picojoules are
    the tables', with those at which all causes of uncertainty are at their lowest and at their highest.
    """

    tiling: Tiling
    macs: int
    cycles: int
    compute_cycles: int
    moved: Traffic
    register_bits: float
    energy_pj: Mapping[Level, float]
    low_pj: Mapping[Level, float]
    high_pj: Mapping[Level, float]

    def femtojoules_per_mac(self, *levels: Level) -> tuple[float, float, float]:
        """Return what one multiply-accumulate costs at these levels: by the tables, at least and at most."""
        nominal, low, high = (
            sum(by_level[level] for level in levels) / self.macs * 1e3
            for by_level in (self.energy_pj, self.low_pj, self.high_pj)
        )
        return nominal, low, high


def cost_of(product: Product, accelerator: Accelerator, nonzero_fraction: float) -> Cost:
    """Return the cost of a product alone on the accelerator, its output stage left out.

    The share of nonzero weights is that of ternary ones; int8 by int8 costs the same for any values.
    """
    work = _work(product, nonzero_fraction)
    ternary = work.unit is Unit.TERNARY_ARRAY
    matrix = product.n * ceil(product.k * TERNARY_BITS / 8) if ternary else 0
    outputs = product.m * product.n * product.output_item_bytes
    plan = best_plan(product, accelerator)
    pipeline = Pipeline(accelerator, keep_transfers=False)
    pipeline.run(plan.body)
    cycles = pipeline.finish()
    moved = traffic(work, Demand(parameters=matrix, matrix=matrix, read=0, written=outputs), plan.total)
    price = prices(accelerator)
    actions = counted_actions(work, moved, cycles, accelerator)
    return Cost(
        tiling=plan.tiling,
        macs=product.m * product.k * product.n,
        cycles=cycles,
        compute_cycles=plan.total.compute_cycles,
        moved=moved,
        register_bits=actions[Action.OPERAND_REGISTER_BIT],
        energy_pj=energy_by_level_pj(actions, price),
        low_pj=energy_by_level_pj(actions, {action: replace(one, pj=one.low_pj) for action, one in price.items()}),
        high_pj=energy_by_level_pj(actions, {action: replace(one, pj=one.high_pj) for action, one in price.items()}),
    )


def _work(product: Product, nonzero_fraction: float) -> Work:
    """Return the product as an operation of an inference."""
    ternary = product.weight_bits == TERNARY_BITS
    kind = OpKind.TERNARY_LINEAR if ternary else OpKind.ATTENTION_SCORES
    gemm = Gemm("product", kind, product.m, product.k, product.n)
    weights = product.k * product.n
    nonzero = round(nonzero_fraction * weights)
    return Work(
        operation=Operation("product", kind, {}, ()),
        unit=Unit.TERNARY_ARRAY if ternary else Unit.INT8_ARRAY,
        layer="product",
        passes=1,
        elements=product.m * product.n,
        gemm=gemm,
        actions=ternary_mac.mac_actions(product.m, nonzero, weights - nonzero)
        if ternary
        else int8_mac.mac_actions(gemm.macs),
    )
