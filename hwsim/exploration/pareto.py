"""The Pareto front: the points that no other point beats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any

import numpy as np

from hwsim.exploration.costs import Figures
from hwsim.exploration.space import Direction


def pareto_front(points: Sequence[Figures | None], objectives: Mapping[str, Direction]) -> list[int]:
    """Return the rising indexes of the points that are on the front.

    A point dominates another that it is at least as good as in every objective and better than in one.
    On the front is what nothing dominates; points that tie in every objective dominate neither, so all of
    them are on it or none. A point that is None, or lacks an objective (None or not a number), takes no part.
    """
    taking_part, rows = [], []
    for index, figures in enumerate(points):
        values = [None if figures is None else figures.get(name) for name in objectives]
        if not any(value is None or isnan(value) for value in values):
            taking_part.append(index)
            goals = zip(objectives.values(), values, strict=True)
            rows.append([direction.cost(float(value or 0)) for direction, value in goals])
    if not rows:
        return []
    return sorted(taking_part[row] for row in _undominated(np.array(rows)))


def _undominated(costs: np.ndarray[Any, Any]) -> list[int]:
    """Return the undominated rows of float64 (N, objectives), every column to be small.

    In lexicographic order a row is dominated by earlier ones only, and then by one of the front too.
    """
    front: list[int] = []
    kept = np.empty_like(costs)
    for row in np.lexsort(costs.T[::-1]):
        others, candidate = kept[: len(front)], costs[row]
        dominated = np.all(others <= candidate, axis=1) & np.any(others < candidate, axis=1)
        if not dominated.any():
            kept[len(front)] = candidate
            front.append(int(row))
    return front
