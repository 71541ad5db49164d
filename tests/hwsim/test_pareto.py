"""The front is what nothing dominates, ties and gaps included."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwsim.exploration.pareto import pareto_front
from hwsim.exploration.space import Direction

BOTH = {"latency_ms": Direction.MINIMISE, "score": Direction.MAXIMISE}


def dominates(one: dict, other: dict, objectives: dict[str, Direction]) -> bool:
    """The definition, word by word."""
    better = {
        name: one[name] < other[name] if direction is Direction.MINIMISE else one[name] > other[name]
        for name, direction in objectives.items()
    }
    return any(better.values()) and all(better[name] or one[name] == other[name] for name in objectives)


@given(
    st.lists(st.tuples(*[st.one_of(st.none(), st.integers(0, 3))] * 3), max_size=40),
    st.tuples(*[st.sampled_from(Direction)] * 3),
)
def test_it_is_the_definition(values: list[tuple[int | None, ...]], directions: tuple[Direction, ...]) -> None:
    objectives = dict(zip("abc", directions, strict=True))
    points = [dict(zip("abc", row, strict=True)) for row in values]
    whole = [point for point in points if None not in point.values()]
    expected = [
        index
        for index, point in enumerate(points)
        if point in whole and not any(dominates(other, point, objectives) for other in whole)
    ]
    assert pareto_front(points, objectives) == expected


def test_points_that_tie_are_all_on_it_or_none_is() -> None:
    best, same, beaten = (
        {"latency_ms": 1.0, "score": 0.9},
        {"latency_ms": 1.0, "score": 0.9},
        {"latency_ms": 1.0, "score": 0.8},
    )
    assert pareto_front([beaten, best, beaten, same], BOTH) == [1, 3]


@pytest.mark.parametrize("gap", [None, float("nan")])
def test_what_is_unknown_neither_stands_nor_beats(gap: float | None) -> None:
    known = {"latency_ms": 5.0, "score": 0.5}
    assert pareto_front([{"latency_ms": 1.0, "score": gap}, known, None, {"latency_ms": 1.0}], BOTH) == [1]
    assert pareto_front([{"latency_ms": 1.0, "score": gap}], BOTH) == []
    assert pareto_front([], BOTH) == []


def test_infinities_are_numbers() -> None:
    points = [
        {"latency_ms": float("inf"), "score": 0.9},
        {"latency_ms": 1.0, "score": 0.5},
        {"latency_ms": 2.0, "score": 0.4},
    ]
    assert pareto_front(points, BOTH) == [0, 1]
