"""The verb `simulate`: an artifact's evaluation split through the datapath, value by value."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict
from safetensors.numpy import save_file

from hwsim.activity.findings import ActivityFindings, ActivityRun
from hwsim.config import Accelerator, Profile
from hwsim.datapath.accumulator_widths import AccumulatorStudy, AccumulatorWidths
from hwsim.datapath.batches import cores, equal_length_batches, graph_inputs, in_threads, rows_to_run
from hwsim.datapath.exact import Datapath
from hwsim.datapath.fixed_simulation import FixedFindings, FixedRun
from hwsim.datapath.golden import GoldenAgreement, golden_agreement
from hwsim.datapath.oracle_check import OracleCheck, check_against_oracle
from hwsim.energy import prices as energy
from hwsim.estimate import ASSUMPTIONS, Estimate, estimate
from hwsim.row_threads import row_threads
from hwsim.schedule.workload import nonzero_weights
from hwsim.trace import TRACE_FILE, trace
from ti_qat.artifact.atomic import whole_directory
from ti_qat.artifact.encoder import Operation, OpKind, execute
from ti_qat.artifact.evaluation import (
    codes_digest,
    label_agreement,
    label_flips,
    largest_difference,
    predictions,
    score,
    valid_codes,
)
from ti_qat.artifact.io import Artifact
from ti_qat.artifact.process import peak_rss_bytes

Array = np.ndarray[Any, Any]
Progress = Callable[[int], None]
Watcher = Callable[[Operation, Mapping[str, Array]], None]

SIMULATION_FILE, LOGITS_FILE, CODES_FILE = "simulation.json", "logits.safetensors", "codes.safetensors"
_QUANTIZERS = (OpKind.QUANTIZE, OpKind.QUANTIZE_PER_TOKEN)


class Simulation(BaseModel):
    """The content of simulation.json; only `peak_rss_bytes` differs between two runs of the same input.

    `label_agreement` (None for a regression) and `logits_max_abs_difference` are against the producer's
    own model, on all simulated rows; so are `label_flips`, the rows with another label. `teacher_score` and
    `teacher_agreement` are of the full-precision teacher on those rows, None where its logits do not travel with the
    artifact. `fixed` is None in the exact profile, `activity`, `accumulators` and `oracle` where they were not asked
    for.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    profile: Profile
    artifact_digest: str
    rows: int
    metric: str
    score: float
    label_agreement: float | None
    label_flips: int | None
    teacher_score: float | None
    teacher_agreement: float | None
    logits_max_abs_difference: float
    golden: GoldenAgreement | None
    zero_weight_fraction: float
    overflow_events: int
    overflow_events_by_operation: dict[str, int]
    fixed: FixedFindings | None
    activity: ActivityFindings | None
    accumulators: AccumulatorStudy | None
    oracle: OracleCheck | None
    estimate: Estimate
    cycles_per_inference: float
    latency_ms: float
    energy_pj_per_inference: float
    accelerator_peak_bytes: int
    accelerator: Accelerator
    energy_table: dict[str, dict[str, Any]]
    assumptions: tuple[str, ...]
    peak_rss_bytes: int


@dataclass
class Values:
    """What the datapath computed for R rows: logits (R, labels), code digests uint64 (R,), hidden states."""

    logits: Array
    digests: dict[str, Array]
    hidden: dict[str, Array]
    overflows: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class _Findings:
    """What a run found beside its values, each None where it was not looked for."""

    fixed: FixedFindings | None
    activity: ActivityFindings | None
    accumulators: AccumulatorStudy | None
    oracle: OracleCheck | None


def simulate(
    artifact: Artifact,
    accelerator: Accelerator,
    *,
    profile: Profile = Profile.EXACT,
    limit: int | None = None,
    threads: int | None = None,
    activity: bool = False,
    accumulator_study: bool = False,
    oracle_rows: int = 0,
    on_progress: Progress = lambda rows: None,
) -> tuple[Simulation, Values]:
    """Run the first `limit` rows of the evaluation split (all by default) through the accelerator.

    Rows go through at their own length, without padding, one thread a batch, or several where there are fewer
    batches than threads; `on_progress` receives the number of rows just done. The result depends on neither.
    `activity` counts the bits that switch in the array as well, `accumulator_study` looks at every sum on its way,
    and the first `oracle_rows` rows go through the NumPy oracle too, each counted by `on_progress` once more. Raises
    SimulatorError.
    """
    rows = rows_to_run(artifact, limit)
    nonzero = nonzero_weights(artifact.encoder, artifact.parameters)
    fixed = FixedRun.prepare(artifact, accelerator, rows) if profile is Profile.FIXED else None
    lengths = artifact.evaluation.lengths[:rows].tolist()
    cost = estimate(artifact.encoder, accelerator, lengths, nonzero, profile)
    oracle = check_against_oracle(artifact, min(oracle_rows, rows), on_progress) if oracle_rows else None
    threads = threads or cores()
    switched = ActivityRun(artifact.encoder.operations, accelerator, threads) if activity else None
    widths = AccumulatorWidths(artifact.encoder, artifact.parameters) if accumulator_study and fixed is None else None
    watch = [run.observe for run in (switched, widths) if run is not None]
    values = compute_values(artifact, accelerator, rows, threads, on_progress, fixed, watch)
    widths = fixed.widths if fixed is not None else widths
    findings = _Findings(
        fixed=fixed.findings(values.logits) if fixed is not None else None,
        activity=switched.findings() if switched is not None else None,
        accumulators=widths.study if widths is not None else None,
        oracle=oracle,
    )
    zero_weight_fraction = 1 - sum(nonzero.values()) / cost.memory.ternary_linear_weights
    return _report(artifact, accelerator, values, cost, zero_weight_fraction, findings)


def compute_values(
    artifact: Artifact,
    accelerator: Accelerator,
    rows: int,
    threads: int,
    on_progress: Progress,
    fixed: FixedRun | None = None,
    watch: Sequence[Watcher] = (),
) -> Values:
    """Return the values of the first `rows` rows, in the fixed profile where `fixed` says how.

    Each of `watch` sees every operation and its operands on the way.
    """
    split, encoder = artifact.evaluation, artifact.encoder
    codes = [op.outputs[0] for op in encoder.operations if op.kind in _QUANTIZERS]
    golden_rows = min(rows, len(next(iter(split.golden.values()), ())))
    values = Values(
        logits=np.empty((rows, encoder.shape.labels), np.float32),
        digests={name: np.empty(rows, np.uint64) for name in codes},
        hidden={name: np.zeros_like(states[:golden_rows]) for name, states in split.golden.items()},
    )

    def run(chosen: Array) -> tuple[int, Counter[str]]:
        with row_threads(threads // len(batches)):
            return len(chosen), _run_batch(artifact, accelerator, chosen, values, fixed, watch)

    batches = list(equal_length_batches(split.lengths[:rows]))
    for done, overflows in in_threads(run, batches, threads):
        values.overflows.update(overflows)
        on_progress(done)
    return values


def _run_batch(
    artifact: Artifact,
    accelerator: Accelerator,
    chosen: Array,
    values: Values,
    fixed: FixedRun | None,
    watch: Sequence[Watcher],
) -> Counter[str]:
    """Run one batch; write its rows of `values`, which no other batch touches."""
    length = int(artifact.evaluation.lengths[chosen[0]])

    def observe(op: Operation, operands: Mapping[str, Array], results: tuple[Array, ...]) -> None:
        for look in watch:
            look(op, operands)
        if op.kind in _QUANTIZERS:
            for position, row in enumerate(chosen):
                values.digests[op.outputs[0]][row] = codes_digest(valid_codes(results[0], position, length))
        states = values.hidden.get(op.outputs[0])
        if states is not None:
            golden = chosen < len(states)
            states[chosen[golden], :length] = results[0][golden]

    if fixed is not None:
        values.logits[chosen], overflows = fixed.run_batch(chosen, observe)
        return overflows
    datapath = Datapath(accelerator.accumulator_range, bit_serial=accelerator.bit_serial)

    def settle_and_observe(op: Operation, operands: Mapping[str, Array], results: tuple[Array, ...]) -> None:
        datapath.settle(op)
        observe(op, operands, results)

    inputs = graph_inputs(artifact.evaluation, chosen)
    parameters = artifact.parameters
    values.logits[chosen] = execute(artifact.encoder, datapath.kernels, parameters, inputs, settle_and_observe)
    return datapath.overflows


def _report(
    artifact: Artifact,
    accelerator: Accelerator,
    values: Values,
    cost: Estimate,
    zero_weight_fraction: float,
    findings: _Findings,
) -> tuple[Simulation, Values]:
    rows, split = len(values.logits), artifact.evaluation
    metric = artifact.header.task.metric
    report = Simulation(
        profile=Profile.EXACT if findings.fixed is None else Profile.FIXED,
        artifact_digest=artifact.digest,
        rows=rows,
        metric=metric.value,
        score=score(metric, split.labels[:rows], predictions(metric, values.logits)),
        label_agreement=label_agreement(metric, values.logits, split.logits[:rows]),
        label_flips=label_flips(metric, values.logits, split.logits[:rows]),
        teacher_score=split.teacher_score(metric, rows),
        teacher_agreement=split.teacher_agreement(metric, values.logits),
        logits_max_abs_difference=largest_difference(values.logits, split.logits[:rows]),
        golden=golden_agreement(artifact, values.hidden, values.logits),
        zero_weight_fraction=zero_weight_fraction,
        overflow_events=values.overflows.total(),
        overflow_events_by_operation=dict(sorted(values.overflows.items())),
        fixed=findings.fixed,
        activity=findings.activity,
        accumulators=findings.accumulators,
        oracle=findings.oracle,
        estimate=cost,
        cycles_per_inference=cost.cycles_per_inference,
        latency_ms=cost.latency_ms,
        energy_pj_per_inference=cost.energy_pj_per_inference,
        accelerator_peak_bytes=cost.accelerator_peak_bytes,
        accelerator=accelerator,
        energy_table={
            action.value: price.row.model_dump(exclude_none=True)
            for action, price in energy.prices(accelerator).items()
        },
        assumptions=ASSUMPTIONS,
        peak_rss_bytes=peak_rss_bytes(),
    )
    return report, values


def write_simulation(
    out_dir: Path, report: Simulation, values: Values, also: Callable[[Path], None] = lambda folder: None
) -> None:
    """Write simulation.json, trace.json, logits.safetensors and codes.safetensors, whole or not at all.

    `also` writes further files into the same folder before it appears.
    """
    with whole_directory(out_dir, SIMULATION_FILE) as fresh:
        (fresh / SIMULATION_FILE).write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
        timeline = trace(report.estimate.timeline, report.accelerator.clock_hz, report.accelerator.name)
        (fresh / TRACE_FILE).write_text(json.dumps(timeline) + "\n", encoding="utf-8")
        save_file({"logits": values.logits}, fresh / LOGITS_FILE)
        save_file(values.digests, fresh / CODES_FILE)
        also(fresh)
