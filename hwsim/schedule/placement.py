"""Which activations live in the activation buffer and which, in whole or in part, in DRAM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from hwsim.config import Accelerator
from hwsim.schedule.tiling import staging_bytes
from hwsim.schedule.workload import activation_shape
from ti_qat.artifact.encoder import Encoder, Operation, OpKind

ASSUMPTIONS = (
    "An activation stays in the activation buffer from the operation that writes it to the last that reads it. What "
    "does not fit is planned ahead: of the activations alive, those needed last live in DRAM, in part if that is "
    "enough, for their whole life.",
    "Where an inference's activations do not fit, a quarter of the activation buffer is kept for what passes through.",
    "Sentences and logits enter and leave beside the model.",
)


@dataclass(frozen=True)
class Placement:
    """Bytes by activation that live in DRAM, and bytes by operation in the buffer (staging included)."""

    in_dram: Mapping[str, int]
    in_buffer: tuple[int, ...]

    def read_bytes(self, op: Operation, made: int) -> int:
        """Return what an operation that makes `made` bytes reads from DRAM when it reads its activations once."""
        found = sum(self.in_dram.get(name, 0) for name in op.inputs.values())
        return min(found, made) if op.kind is OpKind.FIRST_TOKEN else found

    def written_bytes(self, op: Operation) -> int:
        """Return what an operation writes to DRAM."""
        return sum(self.in_dram.get(name, 0) for name in op.outputs)


@dataclass(frozen=True)
class Activations:
    """Bytes of every activation, the operations that need it, and the bytes alive at every operation."""

    sizes: Mapping[str, int]
    lives: Mapping[str, tuple[int, ...]]
    live: tuple[int, ...]


def activations_of(encoder: Encoder, tokens: int) -> Activations:
    """Return the activations of a sentence of `tokens` tokens."""
    sizes = {name: activation_bytes(encoder, name, tokens) for name in encoder.activations}
    return Activations(sizes, lives(encoder), live_bytes(encoder, tokens))


def activation_bytes(encoder: Encoder, name: str, tokens: int) -> int:
    """Return the bytes of one activation for a sentence of `tokens` tokens."""
    return prod(activation_shape(encoder, name, tokens)) * np.dtype(encoder.activations[name].dtype).itemsize


def lives(encoder: Encoder) -> dict[str, tuple[int, ...]]:
    """Return, for every activation, the operations that need it, the one that makes it first."""
    found: dict[str, list[int]] = {name: [0] for name in encoder.graph_inputs}
    for index, op in enumerate(encoder.operations):
        for name in op.outputs:
            found[name] = [index]
        for name in op.inputs.values():
            if name in found and found[name][-1] != index:
                found[name].append(index)
    return {name: tuple(needed) for name, needed in found.items()}


def live_bytes(encoder: Encoder, tokens: int) -> tuple[int, ...]:
    """Return, for every operation, the bytes of all activations that must exist while it runs."""
    change = [0] * (len(encoder.operations) + 1)
    for name, needed in lives(encoder).items():
        size = activation_bytes(encoder, name, tokens)
        change[needed[0]] += size
        change[needed[-1] + 1] -= size
    return tuple(int(live) for live in np.cumsum(change[:-1]))


def place(
    encoder: Encoder, activations: Activations, partial_sums: Sequence[int], accelerator: Accelerator
) -> Placement:
    """Return the placement; `partial_sums` are the bytes that each operation needs beside its activations."""
    sizes, needed, live = activations.sizes, activations.lives, activations.live
    kept = dict(sizes)
    room = accelerator.activation_buffer_bytes
    staging = staging_bytes(accelerator)
    alive: set[str] = set()
    in_buffer = []
    for index, (op, size) in enumerate(zip(encoder.operations, live, strict=True)):
        alive = {name for name in alive if needed[name][-1] >= index}
        alive.update(name for name in (*op.outputs, *(encoder.graph_inputs if index == 0 else ())))
        staged = size + partial_sums[index] > room
        beside = staging if staged else partial_sums[index]
        surplus = sum(kept[name] for name in alive) + beside - room
        for name in _last_needed_first(alive, op, index, needed) if surplus > 0 else ():
            if surplus <= 0:
                break
            moved = 0 if name in encoder.graph_inputs else min(kept[name], surplus)
            kept[name] -= moved
            surplus -= moved
        in_buffer.append((index, frozenset(alive), beside))
    return Placement(
        {name: sizes[name] - bytes_ for name, bytes_ in kept.items() if bytes_ < sizes[name]},
        tuple(sum(kept[name] for name in names) + beside for _, names, beside in in_buffer),
    )


def _last_needed_first(alive: set[str], op: Operation, index: int, needed: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Return the activations alive in the order in which they had better go: idle ones, outputs, inputs."""

    def order(name: str) -> tuple[int, int, str]:
        next_use = next((use for use in needed[name] if use > index), index)
        rank = 1 if name in op.outputs else 2 if name in op.inputs.values() else 0
        return rank, -next_use, name

    return sorted(alive, key=order)
