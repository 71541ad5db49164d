"""Which designs a sweep tries: all, some at random, or those that a search asks for."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from hwsim.exploration.designs import Axes, Design, design_number, number_of_designs
from hwsim.exploration.point_log import Point
from hwsim.exploration.space import Grid, Guided, RandomChoice, Space

Evaluate = Callable[[Sequence[Design]], list[Point]]


def tries(strategy: Grid | RandomChoice | Guided, axes: Axes) -> int:
    """Return how many designs a strategy tries."""
    if isinstance(strategy, Guided):
        return strategy.trials
    whole = number_of_designs(axes)
    return min(strategy.points, whole) if isinstance(strategy, RandomChoice) else whole


def explore(space: Space, axes: Axes, evaluate: Evaluate) -> list[Point]:
    """Return the points that the space's strategy tries, in its order; a search may try one twice."""
    strategy = space.strategy
    if isinstance(strategy, Guided):
        from hwsim.exploration.guided import search

        return search(strategy, axes, space.objectives, space.limits, evaluate)
    whole = range(number_of_designs(axes))
    if isinstance(strategy, RandomChoice):
        whole_or_part = random.Random(strategy.seed).sample(whole, tries(strategy, axes))
        return evaluate([design_number(index, axes) for index in whole_or_part])
    return evaluate([design_number(index, axes) for index in whole])
