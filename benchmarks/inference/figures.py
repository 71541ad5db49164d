"""Medians, spread and ratios of the turns that engines took."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import median, quantiles

from benchmarks.inference.engines import OURS, PEERS, Case
from benchmarks.inference.turns import Turn

Turns = Mapping[str, Mapping[Case, Sequence[Turn]]]
Clock = Callable[[Turn], float]
Spread = dict[str, float]


def wall(turn: Turn) -> float:
    """Return the turn's time by the wall clock."""
    return turn.wall_ms


def processor(turn: Turn) -> float:
    """Return what the turn took of the processors, all threads together."""
    return turn.processor_ms


def spread(values: Sequence[float]) -> Spread:
    """Return median and quartiles; of a single value, that value."""
    low, middle, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return {"lower_quartile": low, "median": middle, "upper_quartile": high}


def ratio(turns: Turns, engine: str, other: str, case: Case, clock: Clock = wall) -> Spread:
    """Return the spread of one engine's time over another's, each round by itself: machines drift between rounds."""
    pairs = zip(turns[engine][case], turns[other][case], strict=True)
    return spread([clock(ours) / clock(theirs) for ours, theirs in pairs])


def fastest(turns: Turns, engines: Sequence[str], case: Case, clock: Clock = wall) -> str:
    """Return the engine of the lowest median."""
    return min(engines, key=lambda engine: median(clock(turn) for turn in turns[engine][case]))


def over_fastest(
    turns: Turns, engines: Sequence[str], cases: Sequence[Case], clock: Clock = wall
) -> tuple[dict[str, float], dict[str, str]]:
    """Return, by shape, our median ratio to the fastest of `engines`, and which that is."""
    best = {case: fastest(turns, engines, case, clock) for case in cases}
    ratios = {case.shape: ratio(turns, OURS, engine, case, clock)["median"] for case, engine in best.items()}
    return ratios, {case.shape: engine for case, engine in best.items()}


def thread_speedup(turns: Turns, engine: str, case: Case) -> float:
    """Return how many times as fast the case is as the same on one thread, round by round."""
    pairs = zip(turns[engine][replace(case, threads=1)], turns[engine][case], strict=True)
    return median(alone.wall_ms / several.wall_ms for alone, several in pairs)


def by_engine(turns: Turns) -> dict[str, object]:
    """Return every engine's milliseconds, by threads and shape, and our time over its."""
    return {
        engine: {
            str(threads): {
                case.shape: {
                    "wall_ms": spread([wall(turn) for turn in taken]),
                    "processor_ms": spread([processor(turn) for turn in taken]),
                    "ours_over_it": ratio(turns, OURS, engine, case),
                }
                for case, taken in cases.items()
                if case.threads == threads
            }
            for threads in sorted({case.threads for case in cases})
        }
        for engine, cases in turns.items()
    }


def bars(turns: Turns, int8_engines: Sequence[str]) -> dict[str, object]:
    """Return the figures that the limits are set on; None where peers were left out or there is no second core."""
    cases = list(turns[OURS])
    groups = {
        "": [case for case in cases if case.threads == 1 and case.batch == 1],
        "_batches": [case for case in cases if case.threads == 1 and case.batch > 1],
        "_two_threads": [case for case in cases if case.threads == 2],
    }
    int8 = [engine for engine in int8_engines if engine in turns]
    found: dict[str, object] = {}
    for group, members in groups.items():
        for over, best, engines in (
            ("bert_base_over_best_int8", "best_int8_engine", int8),
            ("bert_base_over_best_peer", "best_peer", [engine for engine in turns if engine in PEERS]),
        ):
            known = bool(engines and members)
            found[over + group], found[best + group] = over_fastest(turns, engines, members) if known else (None, None)
    found["bert_base_over_best_int8_processor_time"] = (
        over_fastest(turns, int8, groups[""] + groups["_batches"], processor)[0] if int8 else None
    )
    found["two_threads_over_one"] = {
        case.shape: thread_speedup(turns, OURS, case) for case in groups["_two_threads"]
    } or None
    return found
