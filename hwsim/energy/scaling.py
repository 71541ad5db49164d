"""Figures of one process node at another: the only place where a node's factor is computed.

Logic follows A. Stillmaker and B. Baas, "Scaling equations for the accurate prediction of CMOS device performance
from 180 nm to 7 nm", Integration 58 (2017): the energy of an operation goes with a2 V**2 + a1 V + a0, a polynomial
for every node. The paper has several variants for some nodes; the rows here are those that Accelergy's hwcomponents
lists (scaling/techscaling.py), one a node. The target of the authors' corrigendum, 0.8367 V**2 - 0.4341 V + 0.1701, is
another variant, 0.845 of our 32 nm row at 0.9 V.

SRAM below 22 nm, where CACTI 7 ends, follows Accelergy's CACTI wrapper: energy and leakage with the square root of
the node, area in proportion to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from math import sqrt
from typing import NamedTuple


class ScalingRule(StrEnum):
    """How a table's figures follow from another table's."""

    STILLMAKER_BAAS = "stillmaker_baas"
    SQUARE_ROOT = "square_root"


class Polynomial(NamedTuple):
    """Coefficients of the energy of an operation over the supply voltage, in an arbitrary unit."""

    a2: float
    a1: float
    a0: float

    def at(self, voltage_v: float) -> float:
        """Return the energy factor at a supply voltage."""
        return self.a2 * voltage_v**2 + self.a1 * voltage_v + self.a0


class Point(NamedTuple):
    """A node and, for logic, its supply voltage."""

    node_nm: float
    voltage_v: float


_ENERGY: Mapping[float, Polynomial] = {
    130: Polynomial(7.171, -6.709, 2.904),
    90: Polynomial(4.762, -4.781, 2.092),
    65: Polynomial(3.755, -4.398, 1.975),
    45: Polynomial(1.103, -0.362, 0.2767),
    32: Polynomial(0.9559, -0.7823, 0.471),
    20: Polynomial(0.373, -0.1582, 0.04104),
    16: Polynomial(0.2958, -0.1241, 0.03024),
    14: Polynomial(0.2363, -0.09675, 0.02239),
    10: Polynomial(0.2068, -0.09311, 0.02375),
    7: Polynomial(0.1776, -0.09097, 0.02447),
}
# The same paper's areas, as multiples of that at 45 nm.
_AREA: Mapping[float, float] = {
    130: 6.4, 90: 2.8, 65: 1.5, 45: 1.0, 32: 0.46, 20: 0.21, 16: 0.19, 14: 0.17, 10: 0.1, 7: 0.059,
}  # fmt: skip


def logic_energy_factor(start: Point, target: Point) -> float:
    """Return what a logic operation's energy is multiplied with from `start` to `target`.

    Nodes between two rows are interpolated linearly, each row at the point's own voltage. Raises ValueError for a
    node beyond the rows.
    """
    return _energy(target) / _energy(start)


def logic_area_factor(start_nm: float, target_nm: float) -> float:
    """Return what a circuit's area is multiplied with between two nodes. Raises ValueError beyond the rows."""
    return _between(_AREA, target_nm) / _between(_AREA, start_nm)


def sram_energy_factor(start_nm: float, target_nm: float) -> float:
    """Return what an SRAM's access energy and leakage are multiplied with."""
    return sqrt(target_nm / start_nm)


def sram_area_factor(start_nm: float, target_nm: float) -> float:
    """Return what an SRAM's area is multiplied with."""
    return target_nm / start_nm


def _energy(point: Point) -> float:
    return _between({node: row.at(point.voltage_v) for node, row in _ENERGY.items()}, point.node_nm)


def _between(rows: Mapping[float, float], node_nm: float) -> float:
    """Return the value of a node, on the straight line between its neighbours."""
    if node_nm in rows:
        return rows[node_nm]
    smaller = max((node for node in rows if node < node_nm), default=None)
    larger = min((node for node in rows if node > node_nm), default=None)
    if smaller is None or larger is None:
        raise ValueError(f"{node_nm:g} nm is not between {min(rows):g} and {max(rows):g} nm")
    share = (node_nm - smaller) / (larger - smaller)
    return rows[smaller] + share * (rows[larger] - rows[smaller])
