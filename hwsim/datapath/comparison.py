"""Two runs beside each other: noise of one against the other, and where equal ones first part."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np

from ti_qat.artifact.encoder import Encoder, Kernel, Operation, OpKind, execute

Array = np.ndarray[Any, Any]


class QuantizationNoise:
    """Energy of a signal and of what another run differs from it, by operation; safe from several threads.

    Parts are summed up exactly in the end, since threads bring them in any order.
    """

    def __init__(self) -> None:
        self._energies: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
        self._lock = Lock()

    def add(self, operation: str, signal: Array, noisy: Array) -> None:
        """Take in values of one operation: `signal` what they should be, `noisy` what they are."""
        exact = signal.astype(np.float64)
        signal_energy, noise_energy = float(np.sum(exact**2)), float(np.sum((noisy - exact) ** 2))
        with self._lock:
            self._energies[operation].append((signal_energy, noise_energy))

    @property
    def decibels(self) -> dict[str, float | None]:
        """10 log10 of signal over noise energy; None where one of them is zero."""
        found = {}
        for name, parts in self._energies.items():
            signal, noise = (math.fsum(energies) for energies in zip(*parts, strict=True))
            found[name] = 10.0 * math.log10(signal / noise) if signal > 0.0 and noise > 0.0 else None
        return found


@dataclass(frozen=True)
class Run:
    """Kernels by kind and the parameters that they take."""

    kernels: Mapping[OpKind, Kernel]
    parameters: Mapping[str, Array]


@dataclass(frozen=True)
class Divergence:
    """The first value in which two runs differ; `index` is into the activation `output` of `operation`."""

    operation: str
    output: str
    index: tuple[int, ...]
    first: float
    second: float
    different_values: int

    def __str__(self) -> str:
        return self.told("first run", "second")

    def told(self, first: str, second: str) -> str:
        """Return it in words, the two runs called by these names."""
        return (
            f"{self.operation}: {self.output}{list(self.index)} is {self.first!r} in the {first} and "
            f"{self.second!r} in the {second}; {self.different_values} values differ"
        )


def first_divergent_operation(
    encoder: Encoder, inputs: Mapping[str, Array], first: Run, second: Run
) -> Divergence | None:
    """Return the first operation whose outputs differ in a bit between two runs of `encoder`, or None.

    `inputs` as `execute` takes them. NaN equals NaN of the same bits; 0.0 differs from -0.0.
    """
    seen: dict[str, Array] = {}
    found: list[Divergence] = []

    def remember(op: Operation, _: Mapping[str, Array], results: tuple[Array, ...]) -> None:
        seen.update(zip(op.outputs, results, strict=True))

    def compare(op: Operation, _: Mapping[str, Array], results: tuple[Array, ...]) -> None:
        for name, result in zip(op.outputs, results, strict=True):
            difference = None if found else _difference(op.name, name, seen.pop(name), result)
            if difference is not None:
                found.append(difference)

    execute(encoder, first.kernels, first.parameters, inputs, remember)
    execute(encoder, second.kernels, second.parameters, inputs, compare)
    return found[0] if found else None


def _difference(operation: str, name: str, first: Array, second: Array) -> Divergence | None:
    if (first.dtype, first.shape) != (second.dtype, second.shape):
        raise ValueError(
            f"{name}: {first.dtype} {first.shape} in the first run, {second.dtype} {second.shape} in the second: "
            "the runs are not of one program"
        )
    bits = f"u{first.dtype.itemsize}"
    different = np.ascontiguousarray(first).view(bits) != np.ascontiguousarray(second).view(bits)
    if not different.any():
        return None
    index = tuple(int(i) for i in np.argwhere(different)[0])
    return Divergence(operation, name, index, first[index].item(), second[index].item(), int(different.sum()))
