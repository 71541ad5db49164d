from fractions import Fraction
from itertools import pairwise

import pytest

from ti_qat.config import StudentConfig
from ti_qat.errors import ConfigurationError
from ti_qat.method.schedules import (
    ConstantSchedule,
    GradualSchedule,
    InterventionPoint,
    InvertedSchedule,
    Method,
    StochasticSchedule,
    phase,
    schedule_for,
    warn_of_idleness,
)
from ti_qat.recipes import steps_of_intervention

# The ends of the phases, as fractions of T.
GRADUAL = (("output", Fraction(1, 6)), ("context", Fraction(1, 3)), ("attention_map", Fraction(1)))
INVERTED = (("attention_map", Fraction(1, 3)), ("context", Fraction(2, 3)), ("output", Fraction(1)))


def naive(phases, steps):
    """The point of each of `steps` + 2 steps, by comparing exact fractions of T."""
    points = []
    for step in range(steps + 2):
        progress = Fraction(step, steps) if steps else Fraction(1)
        points.append(next((name for name, end in phases if progress < end), None))
    return points


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5, 6, 7, 11, 60, 61, 120])
@pytest.mark.parametrize(("schedule", "phases"), [(GradualSchedule, GRADUAL), (InvertedSchedule, INVERTED)])
def test_phases_end_where_exact_fractions_of_t_say(schedule, phases, steps):
    assert [schedule(steps).point(step) for step in range(steps + 2)] == naive(phases, steps)


def test_the_papers_sixty_steps():
    gradual, inverted = GradualSchedule(60), InvertedSchedule(60)
    assert [gradual.point(step) for step in (0, 9, 10, 19, 20, 59, 60)] == [
        "output", "output", "context", "context", "attention_map", "attention_map", None,
    ]  # fmt: skip
    assert [inverted.point(step) for step in (0, 19, 20, 39, 40, 59, 60)] == [
        "attention_map", "attention_map", "context", "context", "output", "output", None,
    ]  # fmt: skip


def test_random_points_depend_on_seed_and_step_alone():
    schedule = StochasticSchedule(100, seed=3)
    forwards = [schedule.point(step) for step in range(100)]
    assert [StochasticSchedule(100, seed=3).point(step) for step in reversed(range(100))] == forwards[::-1]
    assert [StochasticSchedule(1000, seed=3).point(step) for step in range(100)] == forwards
    assert [StochasticSchedule(100, seed=4).point(step) for step in range(100)] != forwards
    # Written down: a run that is resumed under a later version must go on with the same draws.
    assert forwards[:6] == ["context", "attention_map", "attention_map", "context", "attention_map", "context"]
    assert schedule.point(100) is None


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_random_points_are_roughly_uniform_and_without_memory(seed):
    points = [StochasticSchedule(9000, seed).point(step) for step in range(9000)]
    pairs = list(pairwise(points))
    for first in InterventionPoint:
        assert points.count(first) == pytest.approx(3000, abs=250)  # 5.6 standard deviations
        for second in InterventionPoint:
            assert pairs.count((first, second)) == pytest.approx(1000, abs=170)


def test_methods_have_their_schedules():
    assert schedule_for(Method.TI_G, 6, 0) == GradualSchedule(6)
    assert schedule_for(Method.TI_INVERTED, 6, 0) == InvertedSchedule(6)
    assert schedule_for(Method.TI_STOCHASTIC, 6, 5) == StochasticSchedule(6, 5)
    assert schedule_for(Method.TI_M, 6, 0) == ConstantSchedule(InterventionPoint.ATTENTION_MAP, 6)
    assert schedule_for(Method.TI_C, 6, 0).point(5) is InterventionPoint.CONTEXT
    assert schedule_for(Method.TI_O, 6, 0).point(6) is None
    assert schedule_for(Method.KD, 6, 0).point(0) is None


def test_the_log_names_the_point_unless_it_is_drawn_anew_at_each_step():
    assert [phase(InvertedSchedule(3), step) for step in range(4)] == ["attention_map", "context", "output", "none"]
    assert [phase(StochasticSchedule(2, 0), step) for step in range(3)] == ["stochastic", "stochastic", "none"]


def test_steps_of_intervention_win_over_the_fraction():
    assert steps_of_intervention(StudentConfig(intervention_fraction=0.25), 30) == 7
    assert steps_of_intervention(StudentConfig(intervention_fraction=0.25, intervention_steps=30), 30) == 30
    assert steps_of_intervention(StudentConfig(intervention_steps=0), 30) == 0
    with pytest.raises(ConfigurationError, match="intervention_steps: expected at most the run's 30 steps, found 31"):
        steps_of_intervention(StudentConfig(intervention_steps=31), 30)


@pytest.mark.parametrize(
    ("method", "intervention_steps", "lambda_steps", "told"),
    [
        (Method.TI_G, 0, 1, "ti-g: the teacher intervenes at no step of 20: "),
        (Method.TI_STOCHASTIC, 0, 1, "ti-stochastic: the teacher intervenes at no step of 20: "),
        (Method.TI_G, 1, 1000, None),
        (Method.KD, 0, 1000, None),
        (Method.GRADUAL_LAMBDA, 0, 100, "gradual-lambda: lambda ends at 0.19 and not at 1, "),
        (Method.GRADUAL_LAMBDA, 0, 20, None),
    ],
)
def test_a_method_that_does_not_act_is_told(method, intervention_steps, lambda_steps, told, caplog):
    warn_of_idleness(method, intervention_steps, lambda_steps, steps=20)
    assert len(caplog.messages) == (told is not None)
    assert told is None or caplog.messages[0].startswith(told)
