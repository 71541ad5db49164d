"""The roofline: how near every matrix product comes to what the array and each memory allow."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import isinf

from hwsim.config import Accelerator
from hwsim.energy.operation_cost import OperationCost
from hwsim.reporting.charts import PALETTE, Axis, Curve, Curves, Symbol, readable, scale_of
from hwsim.schedule.workload import Unit

OPERATIONS_A_MAC = 2  # a multiplication and an addition
_LEVELS: dict[str, Symbol] = {"dram": "circle", "activation_buffer": "square", "weight_buffer": "diamond"}
_ROOM = 2.0  # beyond the outermost point


@dataclass(frozen=True)
class RooflinePoint:
    """A matrix product: operations a byte that it moves at one level of memory, and operations a second."""

    operation: str
    level: str
    intensity: float
    attained_ops_per_s: float


def roofline_points(operations: Iterable[OperationCost], clock_hz: float) -> tuple[RooflinePoint, ...]:
    """Return a point for every matrix product and every level that its operands come from.

    Those of products of activations come from the activation buffer; what they fetch from the other is a scale.
    """
    found = []
    for operation in operations:
        done = OPERATIONS_A_MAC * operation.macs
        for level in _LEVELS:
            moved = operation.traffic_bytes[f"{level}_read"] + operation.traffic_bytes[f"{level}_write"]
            operands = level != "weight_buffer" or operation.unit == Unit.TERNARY_ARRAY
            if done and moved and operands:
                attained = done * clock_hz / operation.cycles
                found.append(RooflinePoint(operation.operation, level, done / moved, attained))
    return tuple(found)


def peak_ops_per_s(accelerator: Accelerator) -> float:
    """Return what the array does with all its elements in every cycle."""
    return OPERATIONS_A_MAC * accelerator.array_rows * accelerator.array_columns * accelerator.clock_hz


def bandwidths_bytes_per_s(accelerator: Accelerator) -> dict[str, float]:
    """Return what each level moves at most; a buffer without a number of banks is none that limits."""
    found = {
        "dram": accelerator.dram_bandwidth_bytes_per_s,
        "activation_buffer": accelerator.activation_buffer_bytes_per_cycle * accelerator.clock_hz,
        "weight_buffer": accelerator.weight_buffer_bytes_per_cycle * accelerator.clock_hz,
    }
    return {level: bandwidth for level, bandwidth in found.items() if not isinf(bandwidth)}


def roofline(operations: Iterable[OperationCost], accelerator: Accelerator) -> Curves:
    """Return the roofline of an average inference: points by level of memory, a roof for each, and the array's peak."""
    points = roofline_points(operations, accelerator.clock_hz)
    factor, unit = scale_of([peak_ops_per_s(accelerator)], "op/s")
    peak = peak_ops_per_s(accelerator) * factor
    bandwidths = {level: bandwidth * factor for level, bandwidth in bandwidths_bytes_per_s(accelerator).items()}
    ridges = [peak / bandwidth for bandwidth in bandwidths.values()]
    intensities = [point.intensity for point in points]
    first, last = min(intensities + ridges) / _ROOM, max(intensities + ridges) * _ROOM
    curves = []
    for (level, symbol), colour in zip(_LEVELS.items(), PALETTE, strict=False):
        here = [point for point in points if point.level == level]
        if here:
            curves.append(Curve(
                f"products, {readable(level)}", tuple(p.intensity for p in here),
                tuple(p.attained_ops_per_s * factor for p in here), lines=False, symbol=symbol,
                labels=tuple(p.operation for p in here), colour=colour,
            ))  # fmt: skip
        if level in bandwidths:
            ridge = peak / bandwidths[level]
            roof = (first * bandwidths[level], peak)
            curves.append(Curve(f"roof, {readable(level)}", (first, ridge), roof, reference=True, colour=colour))
    curves.append(Curve("peak of the array", (first, last), (peak, peak), reference=True, colour=PALETTE[-1]))
    return Curves(
        name="roofline",
        title="Roofline of the matrix products",
        caption="Every matrix product appears once for each memory, at the operations it does for a byte moved there; "
        "the memory whose roof is just above the point holds it up, or the array if none is. A point above DRAM's roof "
        "had its bytes fetched while the operation before it ran.",
        x_axis=Axis("arithmetic intensity (operations a byte)", log=True),
        y_axis=Axis(f"operations a second ({unit})", log=True),
        curves=tuple(curves),
    )
