"""Upsets over an evaluation split: every protection, rate and seed beside the run without a fault."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from hwsim.config import Accelerator
from hwsim.datapath.batches import cores, equal_length_batches, graph_inputs, in_threads, rows_to_run
from hwsim.datapath.exact import Datapath
from hwsim.faults.flips import UpsetCounts, draw, stream
from hwsim.faults.plan import CODES, RunKey, UpsetPlan
from hwsim.faults.results import Overhead, UpsetRun, Upsets, curves_of
from hwsim.faults.run_log import RunLog
from hwsim.faults.targets import AccumulatorTarget, ActivationTarget, Effect, Target, TargetName, WeightTarget, numbered
from hwsim.faults.word_codes import OnDetection, Protection, WordCode
from ti_qat.artifact.encoder import execute
from ti_qat.artifact.evaluation import label_flips, predictions, score
from ti_qat.artifact.io import Artifact
from ti_qat.artifact.process import peak_rss_bytes

Array = np.ndarray[Any, Any]
OnProgress = Callable[[int], None]


def inject_upsets(
    artifact: Artifact,
    accelerator: Accelerator,
    plan: UpsetPlan,
    *,
    limit: int | None = None,
    threads: int | None = None,
    log: RunLog | None = None,
    on_progress: OnProgress = lambda rows: None,
) -> Upsets:
    """Run the first `limit` rows (all by default) without faults, then once for every run of `plan`.

    In the exact profile. `on_progress` receives the number of rows just done, (1 + runs) times the rows in all;
    finished runs are taken from `log` and kept there. Results depend on neither threads nor batches.
    Raises SimulatorError.
    """
    rows = rows_to_run(artifact, limit)
    target = target_of(artifact, accelerator, plan)
    campaign = Campaign(artifact, accelerator, target, plan.on_detection, rows, threads or cores())
    codes = {protection: CODES[protection](target.data_bits) for protection in plan.protections}
    clean = campaign.logits_without_faults(on_progress)
    runs = []
    for key in plan.runs:
        run = log.find(key) if log is not None else None
        if run is None:
            run = campaign.run(clean, codes[key[0]], key, on_progress)
            if log is not None:
                log.add(run)
        else:
            on_progress(rows)
        runs.append(run)
    return Upsets(
        artifact_digest=artifact.digest,
        accelerator=accelerator.name,
        target=plan.target,
        on_detection=plan.on_detection,
        rows=rows,
        seeds=plan.seeds,
        metric=artifact.header.task.metric.value,
        fault_free_score=campaign.score(clean),
        overheads=tuple(campaign.overhead(protection, code) for protection, code in codes.items()),
        curves=curves_of(runs),
        runs=tuple(runs),
        peak_rss_bytes=peak_rss_bytes(),
    )


def target_of(artifact: Artifact, accelerator: Accelerator, plan: UpsetPlan) -> Target:
    """Return the bits that `plan` upsets."""
    encoder, limits = artifact.encoder, accelerator.accumulator_range
    match plan.target:
        case TargetName.WEIGHTS:
            return WeightTarget(encoder, artifact.parameters, limits, plan.word_bits)
        case TargetName.ACCUMULATORS:
            return AccumulatorTarget(encoder, limits, accelerator.accumulator_bits)
        case TargetName.ACTIVATIONS:
            return ActivationTarget(encoder, limits, plan.word_bits)


@dataclass(frozen=True)
class Campaign:
    """The first `rows` of an artifact's evaluation split on an accelerator, one target upset."""

    artifact: Artifact
    accelerator: Accelerator
    target: Target
    on_detection: OnDetection
    rows: int
    threads: int

    def logits_without_faults(self, on_progress: OnProgress) -> Array:
        """Return the logits of the exact profile, float32 (R, labels)."""
        logits = np.empty((self.rows, self.artifact.encoder.shape.labels), np.float32)

        def run(chosen: Array) -> int:
            kernels = Datapath(self.accelerator.accumulator_range).kernels
            inputs = graph_inputs(self.artifact.evaluation, chosen)
            logits[chosen] = execute(self.artifact.encoder, kernels, self.artifact.parameters, inputs)
            return len(chosen)

        for done in in_threads(run, self._batches(), self.threads):
            on_progress(done)
        return logits

    def run(self, clean: Array, code: WordCode, key: RunKey, on_progress: OnProgress) -> UpsetRun:
        """Return what all rows come to under one (protection, rate, seed); `clean` are their logits without faults."""
        protection, rate, seed = key
        logits, reached, counts = self.logits_with_upsets(clean, code, rate, seed, on_progress)
        return UpsetRun(
            protection=protection,
            rate=rate,
            seed=seed,
            score=self.score(logits),
            label_flips=label_flips(self.artifact.header.task.metric, logits, clean),
            reached_rows=reached,
            **asdict(counts),
        )

    def logits_with_upsets(
        self, clean: Array, code: WordCode, rate: float, seed: int, on_progress: OnProgress
    ) -> tuple[Array, int, UpsetCounts]:
        """Return (logits, rows in which the datapath read a flip, counts over all rows).

        A row that no flip reaches keeps its logits of `clean` and is not computed again.
        """
        logits, reached, counts = clean.copy(), 0, UpsetCounts()
        run = partial(self._run_batch, logits, code, rate, seed)
        for done, hit, found in in_threads(run, self._batches(), self.threads):
            reached += hit
            counts += found
            on_progress(done)
        return logits, reached, counts

    def _batches(self) -> tuple[Array, ...]:
        return tuple(equal_length_batches(self.artifact.evaluation.lengths[: self.rows]))

    def _run_batch(
        self, logits: Array, code: WordCode, rate: float, seed: int, chosen: Array
    ) -> tuple[int, int, UpsetCounts]:
        counts = UpsetCounts()
        effects: dict[int, dict[int, Effect]] = {}
        for row in map(int, chosen):
            effects[row], found = self._effects(code, rate, seed, row)
            counts += found
        hit = np.array([row for row, of_row in effects.items() if of_row], np.int64)
        if len(hit):
            logits[hit] = self._execute(hit, [effects[row] for row in hit])
        return len(chosen), len(hit), counts

    def _effects(self, code: WordCode, rate: float, seed: int, row: int) -> tuple[dict[int, Effect], UpsetCounts]:
        tokens, counts = int(self.artifact.evaluation.lengths[row]), UpsetCounts()
        effects: dict[int, Effect] = {}
        for number, op in enumerate(self.artifact.encoder.operations):
            if op.kind not in self.target.kinds:
                continue
            words = self.target.words(op, tokens)
            upsets, found = draw(stream(seed, number, row), words, code, rate, self.on_detection)
            counts += found
            effect = self.target.effect(op, upsets) if upsets is not None else None
            if effect is not None:
                effects[number] = effect
        return effects, counts

    def _execute(self, rows: Array, effects: Sequence[Mapping[int, Effect]]) -> Array:
        kernels = {**Datapath(self.accelerator.accumulator_range).kernels, **self.target.kernels(effects)}
        encoder = numbered(self.artifact.encoder, self.target.kinds)
        return execute(encoder, kernels, self.artifact.parameters, graph_inputs(self.artifact.evaluation, rows))

    def score(self, logits: Array) -> float:
        """Return the task's score of logits (R, labels)."""
        metric = self.artifact.header.task.metric
        return score(metric, self.artifact.evaluation.labels[: self.rows], predictions(metric, logits))

    def overhead(self, protection: Protection, code: WordCode) -> Overhead:
        """Return what `code` adds to the bits of an average inference, and its gates."""
        lengths, counts = np.unique(self.artifact.evaluation.lengths[: self.rows], return_counts=True)
        words = sum(
            int(count) * self.target.words(op, int(length))
            for op in self.artifact.encoder.operations
            if op.kind in self.target.kinds
            for length, count in zip(lengths, counts, strict=True)
        )
        return Overhead(
            protection=protection,
            word_data_bits=code.data_bits,
            word_check_bits=code.check_bits,
            data_bits_per_inference=words * code.data_bits / self.rows,
            check_bits_per_inference=words * code.check_bits / self.rows,
            stored_bits_factor=1 + code.check_bits / code.data_bits,
            gates=code.gates,
        )
