"""Guided search: Optuna asks for designs, learns what they cost, and asks for better ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import isfinite

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import Trial, TrialState

from hwsim.exploration.axes import Value
from hwsim.exploration.designs import Axes, Design
from hwsim.exploration.point_log import Point
from hwsim.exploration.space import Constraint, Direction, Guided

_DIRECTIONS = {Direction.MINIMISE: StudyDirection.MINIMIZE, Direction.MAXIMISE: StudyDirection.MAXIMIZE}


def search(
    strategy: Guided,
    axes: Axes,
    objectives: Mapping[str, Direction],
    limits: Sequence[Constraint],
    evaluate: Callable[[Sequence[Design]], list[Point]],
) -> list[Point]:
    """Return the point of every trial, in order.

    What is asked follows from the seed and from what was told before, in the order of the trials and a
    batch at a time, however long each takes. So a search that is begun again over a log of findings asks
    for the same designs, finds them there, and goes on where it was: Optuna needs no storage.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    values = {name: _ordered(axis) for name, axis in axes.items()}
    asked = {name: _distribution(axis) for name, axis in values.items()}
    directions = [_DIRECTIONS[direction] for direction in objectives.values()]
    study = optuna.create_study(directions=directions, sampler=_sampler(strategy))
    points: list[Point] = []
    while len(points) < strategy.trials:
        trials = [study.ask(asked) for _ in range(min(strategy.batch, strategy.trials - len(points)))]
        found = evaluate([{name: values[name][trial.params[name]] for name in axes} for trial in trials])
        for trial, point in zip(trials, found, strict=True):
            _tell(study, trial, point, objectives, limits)
        points += found
    return points


def _sampler(strategy: Guided) -> BaseSampler:
    if strategy.sampler == "nsga2":
        return NSGAIISampler(population_size=strategy.batch, seed=strategy.seed)
    return TPESampler(seed=strategy.seed)


def _is_numeric(values: Sequence[Value]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _ordered(values: tuple[Value, ...]) -> tuple[Value, ...]:
    """Return numbers rising, so that a search may take neighbours for alike, and other values as they are."""
    return tuple(sorted(values)) if _is_numeric(values) else values


def _distribution(values: Sequence[Value]) -> BaseDistribution:
    """Return what a search draws an index of `values` from."""
    if _is_numeric(values):
        return IntDistribution(0, len(values) - 1)
    return CategoricalDistribution(range(len(values)))


def _tell(
    study: optuna.Study,
    trial: Trial,
    point: Point,
    objectives: Mapping[str, Direction],
    limits: Sequence[Constraint],
) -> None:
    goals = [point.figures.get(name) for name in objectives]
    violations = [limit.violation(point.figures) for limit in limits]
    if any(goal is None for goal in goals) or not all(map(isfinite, violations)):
        study.tell(trial, state=TrialState.FAIL)
        return
    for limit, violation in zip(limits, violations, strict=True):
        trial.set_constraint(f"{limit.figure} {limit.relation} {limit.limit}", violation)
    study.tell(trial, [float(goal or 0) for goal in goals])
