"""The simulator's verbs: `ti-qat simulate`, `ti-qat accelerators` and `ti-qat report`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from hwsim.activity.findings import ActivityFindings
from hwsim.config import Accelerator, Profile, preset_names, read_accelerator
from hwsim.datapath.accumulator_widths import AccumulatorStudy
from hwsim.datapath.batches import rows_to_run
from hwsim.datapath.fixed_simulation import FixedFindings
from hwsim.energy.area import area_mm2
from hwsim.energy.prices import prices
from hwsim.estimate import Estimate
from hwsim.options import accelerator_option
from hwsim.progress import progress_bars
from hwsim.reporting import report as reporting
from hwsim.reporting.simulation_page import write_simulation_report
from hwsim.simulate import SIMULATION_FILE, Simulation, write_simulation
from hwsim.simulate import Progress as OnProgress
from hwsim.simulate import simulate as run_simulation
from ti_qat.artifact import io
from ti_qat.artifact.atomic import require_replaceable
from ti_qat.artifact.evaluation import agreement_line


def simulate_artifact(
    artifact_dir: Path,
    accelerator_name: str,
    out_dir: Path,
    limit: int | None = None,
    profile: Profile = Profile.EXACT,
    *,
    activity: bool = False,
    accumulator_study: bool = False,
    oracle_rows: int = 0,
) -> Simulation:
    """Simulate an artifact and write the results to `out_dir`. Raises ArtifactError or SimulatorError."""
    accelerator = read_accelerator(accelerator_name)
    require_replaceable(out_dir, SIMULATION_FILE)
    artifact = io.load(artifact_dir)
    rows = rows_to_run(artifact, limit)
    with _progress(rows, min(oracle_rows, rows)) as advance:
        report, values = run_simulation(
            artifact,
            accelerator,
            profile=profile,
            limit=limit,
            activity=activity,
            accumulator_study=accumulator_study,
            oracle_rows=oracle_rows,
            on_progress=advance,
        )
    write_simulation(out_dir, report, values, lambda folder: write_simulation_report(folder, report))
    return report


@contextmanager
def _progress(rows: int, oracle_rows: int) -> Iterator[OnProgress]:
    counted = f"rows, {oracle_rows} by the oracle before" if oracle_rows else "rows"
    with progress_bars("simulate") as bar:
        # Nothing moves for some time where the kernels are compiled, so the line says what it is.
        task = bar.add_task(f"{counted} (the first run on a machine compiles kernels)", total=rows + oracle_rows)
        yield lambda done: bar.update(task, advance=done, description=counted)


@click.command(short_help="Run an artifact through a ternary accelerator, bit by bit.")
@click.argument("artifact", type=click.Path(path_type=Path))
@accelerator_option
@click.option(
    "--profile",
    type=click.Choice([profile.value for profile in Profile]),
    default=Profile.EXACT.value,
    show_default=True,
    help="exact: the deployed arithmetic, bit for bit; fixed: integers alone, compared with exact.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Only the first rows of the evaluation split.")
@click.option("--activity", is_flag=True, help="Count the bits that switch in the array (docs/bit_level.md).")
@click.option(
    "--accumulator-study", is_flag=True, help="Widths that the sums need, and the K at which narrower ones first fail."
)
@click.option(
    "--check-oracle",
    "oracle_rows",
    type=click.IntRange(min=0),
    default=0,
    metavar="ROWS",
    help="Hold every value of the first rows to the NumPy oracle; exit 1 and name the first that differs.",
)
@click.option("--out", "out_dir", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option("--json", "as_json", is_flag=True, help="Print simulation.json on standard output.")
@click.pass_context
def simulate(
    context: click.Context,
    artifact: Path,
    accelerator: str,
    profile: str,
    limit: int | None,
    activity: bool,
    accumulator_study: bool,
    oracle_rows: int,
    out_dir: Path,
    as_json: bool,
) -> None:
    """Run an artifact's evaluation split through the datapath; report score, cycles, memory, energy.

    \b
    Example:
      ti-qat simulate runs/movie_reviews/artifact --accelerator wearable --out runs/movie_reviews/simulation
    """
    report = simulate_artifact(
        artifact,
        accelerator,
        out_dir,
        limit,
        Profile(profile),
        activity=activity,
        accumulator_study=accumulator_study,
        oracle_rows=oracle_rows,
    )
    click.echo(report.model_dump_json() if as_json else _described_simulation(report))
    if report.oracle is not None and report.oracle.divergence is not None:
        click.echo(f"ti-qat: {report.oracle}", err=True)
        context.exit(1)


def _described_simulation(report: Simulation) -> str:
    """Return what a simulation found, in lines."""
    memory = report.estimate.memory
    lines = [
        f"{report.metric} {report.score:.4f} on {report.rows} rows, "
        f"{agreement_line(report.label_agreement, report.logits_max_abs_difference)}{_teacher_words(report)}",
        f"{report.accelerator.name}: {report.cycles_per_inference:,.0f} cycles, {report.latency_ms:.3f} ms, "
        f"{report.overflow_events} overflows",
        _energy_line(report.estimate),
        f"weights {memory.parameter_bytes:,} bytes ({memory.bits_per_linear_weight:.2f} bits a ternary weight), "
        f"activations at most {memory.activation_peak_bytes:,} bytes",
    ]
    if report.fixed is not None:
        lines.append(_fixed_line(report.fixed))
    if report.activity is not None:
        lines.append(_activity_line(report.activity))
    if report.accumulators is not None:
        lines.append(_accumulator_line(report.accumulators))
    if report.oracle is not None and report.oracle.divergence is None:
        lines.append(str(report.oracle))
    return "\n".join(lines)


def _teacher_words(report: Simulation) -> str:
    """Return how the teacher does on the same rows, where the artifact knows it."""
    if report.teacher_score is None:
        return ""
    alike = "" if report.teacher_agreement is None else f", its labels on {report.teacher_agreement:.2%}"
    return f"; the teacher's {report.metric} {report.teacher_score:.4f}{alike}"


def _accumulator_line(found: AccumulatorStudy) -> str:
    """Return in words how wide accumulators have to be, and where the next narrower width fails first."""
    name, bits = max(found.needed_bits.items(), key=lambda item: item[1])
    told = f"accumulators: {bits} bits overflow nowhere (most at {name})"
    earliest = {of: failing[bits - 1] for of, failing in found.first_failing_k.items() if bits - 1 in failing}
    if not earliest:
        return told
    first = min(earliest, key=lambda of: earliest[of])
    return f"{told}; {bits - 1} bits first at K = {earliest[first]} of {first}"


def _energy_line(cost: Estimate) -> str:
    """Return energy, power, efficiency, charge and area in words, with the ends of the band."""
    band, figures = cost.energy_band, cost.efficiency
    parts = [
        f"{band.nominal_pj / 1e6:,.2f} uJ an inference ({band.low_pj / 1e6:,.2f} to {band.high_pj / 1e6:,.2f})",
        f"{figures.average_power_w.nominal * 1e3:,.3g} mW",
        f"{figures.tops_per_w.nominal:.3g} TOPS/W ({figures.tops_per_w.low:.3g} to {figures.tops_per_w.high:.3g})",
    ]
    if figures.inferences_per_charge is not None:
        parts.append(f"{figures.inferences_per_charge.nominal:,.0f} inferences a charge")
    if cost.area_mm2:
        parts.append(f"{sum(cost.area_mm2.values()):.3g} mm2")
    return ", ".join(parts)


def _fixed_line(found: FixedFindings) -> str:
    """Return in words what integers cost against the exact profile."""
    flips = "" if found.label_flips is None else f", {found.label_flips} labels flipped"
    return (
        f"fixed profile: {found.score_loss_points:.2f} points lost to the exact profile's {found.exact_score:.4f}"
        f"{flips}; logits within {found.logits_max_abs_difference:.2g}, {found.saturated_values} values saturated"
    )


def _activity_line(found: ActivityFindings) -> str:
    """Return in words what switched in the array."""
    classes = ", ".join(
        f"{wires.replace('_', ' ')} {toggles / found.macs:.2f}"
        for wires, toggles in found.toggles_by_wire_class.items()
    )
    return (
        f"activity: {found.toggles_per_mac:.2f} toggles a multiply-accumulate ({classes}); zero weight "
        f"{found.zero_weight_fraction:.1%}, zero activation {found.zero_activation_fraction:.1%}, "
        f"gated {found.gated_fraction:.1%}"
    )


@click.command(short_help="List the accelerators, or check and describe one.")
@click.argument("accelerator", required=False, metavar="[NAME|FILE.toml]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def accelerators(accelerator: str | None, as_json: bool) -> None:
    """List the accelerators that come with the package; given a name or a file, check it and describe it.

    \b
    Example:
      ti-qat accelerators wearable
    """
    if accelerator is None:
        found = {name: read_accelerator(name) for name in preset_names()}
        listed = {name: preset.model_dump(mode="json") for name, preset in found.items()}
        lines = [f"{name}: {preset.description}" for name, preset in found.items()]
        click.echo(json.dumps(listed) if as_json else "\n".join(lines))
        return
    chosen = read_accelerator(accelerator)
    prices(chosen)  # its tables have a figure for everything that is counted, and no area twice
    for profile in Profile:
        area_mm2(chosen, chosen.widths_of(profile))
    click.echo(chosen.model_dump_json() if as_json else _described(chosen))


def _written(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _described(accelerator: Accelerator) -> str:
    """Return an accelerator's name and description, and a line for every field."""
    fields = accelerator.model_dump(mode="json", exclude={"name", "description"}, exclude_none=True)
    for table in ("fixed", "battery"):
        fields |= {f"{table}.{name}": value for name, value in fields.pop(table, {}).items()}
    width = max(map(len, fields))
    lines = [f"{name:{width}}  {_written(value)}" for name, value in fields.items()]
    return "\n".join([f"{accelerator.name}: {accelerator.description}", *lines])


@click.command(short_help="Write a run's report again from its stages' results.")
@click.argument("run_dir", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print report.json on standard output.")
def report(run_dir: Path, as_json: bool) -> None:
    """Read RUN/report.json and what the stages left in RUN; write report.json in full and report.html.

    \b
    Example:
      ti-qat report runs/movie_reviews
    """
    summary = reporting.report_run(run_dir)
    click.echo(summary.model_dump_json() if as_json else str(run_dir / reporting.HTML_FILE))
