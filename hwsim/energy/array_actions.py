"""What zero gating and bit-serial activations change about the array's actions."""

from __future__ import annotations

from collections.abc import MutableMapping

from hwsim.config import Accelerator, Dataflow, ZeroGating
from hwsim.schedule.memory import TERNARY_BITS
from hwsim.schedule.workload import Unit, Work
from hwsim.units import serial_mac
from hwsim.units.actions import Action

ASSUMPTIONS = (
    "Under output stationary, an element gated by a zero weight spends nothing but the registers of the operands that "
    "move through it; under the other dataflows its sum register still moves a sum on, and it counts as ungated. The "
    "gating cells are left out, and so are zero activations, since the estimate knows no values.",
    "A bit-serial element has no multiplier: it spends eight additions as wide as its product on it, each that part of "
    "a 32-bit addition, clocks as many register bits, and adds the product to its sum as a ternary one is added. Its "
    "word operations are booked under the vector units.",
)


def settle_array_actions(actions: MutableMapping[Action, float], step: Work, accelerator: Accelerator) -> None:
    """Take gated multiply-accumulates out of `actions` of one operation, and add what serial products take."""
    if step.gemm is None:
        return
    ternary = step.unit is Unit.TERNARY_ARRAY
    gated = 0.0
    if ternary and accelerator.zero_gating is not ZeroGating.NONE:
        gated = actions[Action.TERNARY_MAC_ZERO]
        if accelerator.dataflow is Dataflow.OUTPUT_STATIONARY:
            actions[Action.TERNARY_MAC_ZERO] = 0
    if accelerator.bit_serial:
        steps = serial_mac.step_actions(int(step.gemm.macs - gated), TERNARY_BITS if ternary else 8)
        for action, count in steps.items():
            actions[action] += count
        if not ternary:
            actions[Action.TERNARY_MAC_NONZERO] += actions.pop(Action.INT8_MAC)
