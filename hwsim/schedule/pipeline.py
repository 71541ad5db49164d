"""When things happen: tiles of work behind one DRAM channel, double buffered, to the cycle.

The recurrence is max-plus linear, so a long run of equal tiles is walked only until it moves by the same
number of cycles every time; what is left is added in one step, and the result is that of the whole walk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from typing import NamedTuple

from hwsim.config import Accelerator

ASSUMPTIONS = (
    "Operations run one after the other; a head's attention product is one GEMM on the whole array.",
    "Weights and spilled activations come through two slots: a tile is fetched once the second tile before it is done, "
    "also across operations; what was written just before is fetched once it has left.",
    "DRAM is one channel, served in order, reads of the next tile before writes of this one; its latency is paid by "
    "every fetch, and hidden where the channel or the array is busy.",
    "A transfer takes whole cycles of the accelerator's clock; refresh and row misses are part of the given bandwidth.",
)


_TOO_FEW_TO_LEAP = 3  # walks that show no rhythm yet
_Moment = tuple[tuple[int, int, int, int], tuple[int, int], tuple[int, int] | None]


class Tile(NamedTuple):
    """A piece of one operation: what it computes and what it moves.

    `compute_cycles` are those of array or lanes, `occupied_cycles` those with the buffers' ports
    (never fewer); the next three are bytes from and to DRAM, the rest crosses the buffers' ports.
    """

    compute_cycles: int
    occupied_cycles: int
    weight_bytes: int = 0
    input_bytes: int = 0
    output_bytes: int = 0
    weight_read_bits: int = 0
    input_read_bytes: int = 0
    partial_sum_write_bytes: int = 0
    partial_sum_read_bytes: int = 0

    @property
    def fetched_bytes(self) -> int:
        """Bytes that come from DRAM before the tile starts."""
        return self.weight_bytes + self.input_bytes


@dataclass(frozen=True)
class Repeat:
    """`body`, `count` times."""

    count: int
    body: tuple[Tile | Repeat, ...]

    @cached_property
    def once(self) -> Tile:
        """Sum of the tiles of one walk of `body`."""
        return total(self.body)


class Transfer(NamedTuple):
    """The channel from one cycle to another; several transfers of one rhythm may be told as one."""

    start_cycle: int
    end_cycle: int
    read_bytes: int
    write_bytes: int


def total(body: Sequence[Tile | Repeat]) -> Tile:
    """Return the sum of all tiles."""
    if len(body) == 1 and isinstance(body[0], Tile):
        return body[0]
    sums = [0] * len(Tile._fields)
    for item in body:
        count, part = (item.count, item.once) if isinstance(item, Repeat) else (1, item)
        sums = [known + count * value for known, value in zip(sums, part, strict=True)]
    return Tile(*sums)


def leaves(body: Sequence[Tile | Repeat], at_most: int = 1) -> Iterator[Tile]:
    """Yield the tiles in order, walking each repetition `at_most` times."""
    for item in body:
        if isinstance(item, Repeat):
            for _ in range(min(at_most, item.count)):
                yield from leaves(item.body, at_most)
        else:
            yield item


class Pipeline:
    """Walks tiles in order; `now_cycle` is when the last one is computed."""

    def __init__(
        self, accelerator: Accelerator, *, latency_cycles: int | None = None, keep_transfers: bool = True
    ) -> None:
        self.now_cycle = 0
        self.transfers: list[Transfer] | None = [] if keep_transfers else None
        self._clock_hz, self._bytes_per_s = accelerator.clock_hz, accelerator.dram_bandwidth_bytes_per_s
        self._latency = first_latency_cycles(accelerator) if latency_cycles is None else latency_cycles
        self._channel_free = 0
        self._loading_done = (0, 0)  # when the last two tiles that came through a slot were computed
        self._written = (0, 0)  # when the last two writes had left
        self._pending: tuple[int, int] | None = None  # cycle and bytes of a write that waits for the channel
        self._walked: dict[tuple[int, bool, _Moment], _Moment] = {}

    def run_again(self, body: Sequence[Tile | Repeat], *, after_writes: bool = False) -> None:
        """Do what `run` does, in one step if this very `body` was walked from such a moment before.

        Layers repeat each other. Transfers are not told, and `body` must outlive the pipeline.
        """
        origin = self.now_cycle
        key = id(body), after_writes, self._moment(origin)
        if key in self._walked:
            self._resume(self._walked[key], origin)
        else:
            self.run(body, after_writes=after_writes)
            self._walked[key] = self._moment(origin)

    def run(self, body: Sequence[Tile | Repeat], *, after_writes: bool = False) -> None:
        """Walk `body`; `after_writes` where it fetches what the operation before it may have written."""
        if after_writes:
            self._write_pending()
            begin = max(self.now_cycle, self._written[1])
            self._channel_free = max(self._channel_free, begin + self._latency)
        for item in body:
            if isinstance(item, Repeat):
                self._repeat(item)
            else:
                self._step(item)

    def finish(self) -> int:
        """Let the last write leave; return the cycle at which all is done."""
        self._write_pending()
        self.now_cycle = max(self.now_cycle, self._written[1])
        return self.now_cycle

    def transfer_cycles(self, moved_bytes: int) -> int:
        """Return the cycles for which `moved_bytes` hold the channel."""
        return ceil(moved_bytes * self._clock_hz / self._bytes_per_s)

    def _step(self, tile: Tile) -> None:
        fetched, start = tile.weight_bytes + tile.input_bytes, self.now_cycle
        if fetched:
            start = max(start, self._transfer(self._loading_done[0] + self._latency, fetched, 0))
        if self._pending is not None:
            self._write_pending()
        if tile.output_bytes:
            start = max(start, self._written[0])
        self.now_cycle = start + tile.occupied_cycles
        if fetched:
            self._loading_done = (self._loading_done[1], self.now_cycle)
        if tile.output_bytes:
            self._pending = (self.now_cycle, tile.output_bytes)

    def _write_pending(self) -> None:
        if self._pending is not None:
            begin, moved_bytes = self._pending
            self._pending = None
            self._written = (self._written[1], self._transfer(begin, 0, moved_bytes))

    def _transfer(self, begin: int, read: int, write: int) -> int:
        start = max(self._channel_free, begin)
        self._channel_free = start + self.transfer_cycles(read + write)
        if self.transfers is not None:
            self.transfers.append(Transfer(start, self._channel_free, read, write))
        return self._channel_free

    def _repeat(self, item: Repeat) -> None:
        done = item.once
        if not (done.fetched_bytes or done.output_bytes):
            self._write_pending()
            self.now_cycle += item.count * done.occupied_cycles
            return
        left = item.count
        if left <= _TOO_FEW_TO_LEAP:
            for _ in range(left):
                self.run(item.body)
            return
        seen = [self._state(done)]
        while left:
            self.run(item.body)
            left -= 1
            seen.append(self._state(done))
            for period in (1, 2):
                moved = _same_shift(seen[-1 - period], seen[-1]) if len(seen) > period else None
                if moved is not None and left >= period:
                    rounds = left // period
                    self._shift(rounds * moved, done, rounds * period)
                    left -= rounds * period
                    break

    def _moment(self, origin: int) -> _Moment:
        """Return the whole state, in cycles from `origin`; a write that has left long ago is one that left now."""
        first, second = self._loading_done
        early, late = self._written
        pending = self._pending and (self._pending[0] - origin, self._pending[1])
        return (
            (self.now_cycle - origin, self._channel_free - origin, first - origin, second - origin),
            (max(early, self.now_cycle) - origin, max(late, self.now_cycle) - origin),
            pending,
        )

    def _resume(self, moment: _Moment, origin: int) -> None:
        (now, channel, first, second), (early, late), pending = moment
        self.now_cycle, self._channel_free = now + origin, channel + origin
        self._loading_done = (first + origin, second + origin)
        self._written = (early + origin, late + origin)
        self._pending = pending and (pending[0] + origin, pending[1])

    def _state(self, done: Tile) -> tuple[int, tuple[int, ...]]:
        """Return bytes that wait to be written, and every time that the walk of a body that moves `done` depends on."""
        times: tuple[int, ...] = (self.now_cycle, self._channel_free)
        if done.fetched_bytes:
            times += self._loading_done
        if done.output_bytes:
            times += self._written
        waiting, moved_bytes = self._pending or (self.now_cycle, 0)
        return moved_bytes, (*times, waiting)

    def _shift(self, cycles: int, done: Tile, repeats: int) -> None:
        """Move on by `repeats` more walks of a body that has fallen into step."""
        start = self._channel_free
        self.now_cycle += cycles
        self._channel_free += cycles
        if self.transfers is not None:
            read, write = repeats * done.fetched_bytes, repeats * done.output_bytes
            self.transfers.append(Transfer(start, self._channel_free, read, write))
        if done.fetched_bytes:
            self._loading_done = (self._loading_done[0] + cycles, self._loading_done[1] + cycles)
        if done.output_bytes:
            self._written = (self._written[0] + cycles, self._written[1] + cycles)
            if self._pending is not None:
                self._pending = (self._pending[0] + cycles, self._pending[1])


def _same_shift(before: tuple[int, tuple[int, ...]], after: tuple[int, tuple[int, ...]]) -> int | None:
    moved = after[1][0] - before[1][0]
    alike = before[0] == after[0] and all(b - a == moved for a, b in zip(before[1], after[1], strict=True))
    return moved if alike else None


def first_latency_cycles(accelerator: Accelerator) -> int:
    """Return the cycles until the first byte arrives from DRAM."""
    return ceil(accelerator.dram_latency_ns * accelerator.clock_hz / 1e9)
