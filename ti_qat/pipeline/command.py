"""The verb `ti-qat run`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ti_qat.artifact.evaluation import agreement_line
from ti_qat.errors import ConfigurationError
from ti_qat.pipeline.config import read_configuration
from ti_qat.pipeline.runner import StageError, StageResult, failure_of, run_stages
from ti_qat.pipeline.stages import Stage, accelerator_check, plan, report_stage
from ti_qat.pipeline.summary import write_summary

USAGE_ERROR = 2  # exit status of a verb that has told its user what to change


def run_pipeline(configuration: Path, run_dir: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Run every stage of `configuration` that is not done in `run_dir` and write the report.

    Returns the content of report.json. Raises ConfigurationError, StageError or RunBusyError.
    """
    config = read_configuration(configuration, overrides)
    config_dir, run_dir = configuration.resolve().parent, run_dir.resolve()
    check = accelerator_check(config, config_dir, run_dir)
    if check is not None and (failure := failure_of(check)):
        raise ConfigurationError(f"{configuration}: simulation.accelerator: {failure}")
    stages = plan(config, config_dir, run_dir)
    results = run_stages(stages, run_dir, _announce)
    summary = write_summary(run_dir, results)
    run_stages((report_stage(run_dir),), run_dir, _announce)
    return summary


def _announce(number: int, total: int, stage: Stage, result: StageResult | None) -> None:
    state = "..." if result is None else "done before" if result.reused else f"done in {result.seconds:.0f} s"
    click.echo(f"[{number}/{total}] {stage.title}: {state}", err=True)


def as_text(summary: dict[str, Any]) -> str:
    """Return report.json's main figures as a few lines of text."""
    width = max(10, len(summary["metric"]) + 1)
    lines = [f"{'':10}{summary['metric']:>{width}}{'size':>12}{'peak memory':>13}{'latency':>12}"]
    for stage, row in summary["stages"].items():
        size_mb, peak_mb = row["bytes"] / 1e6, row["peak_rss_bytes"] / 1e6
        score, latency = f"{row['score']:{width}.4f}", f"{row['latency_ms']:9.2f} ms"
        lines.append(f"{stage:10}{score}{size_mb:9.2f} MB{peak_mb:10.1f} MB{latency}")
    if summary["simulated_rows"] < summary["evaluation_rows"]:
        lines.append(
            f"simulated: the first {summary['simulated_rows']:,} of {summary['evaluation_rows']:,} rows, "
            "the other scores are of all"
        )
    agreement = summary["agreement"]
    energy_uj = summary["energy_pj_per_inference"] / 1e6
    return "\n".join(
        [
            *lines,
            f"codes: {agreement['code_mismatches']} of {agreement['codes_compared']:,} differ, simulator to CPU",
            agreement_line(agreement["label_agreement"], agreement["logits_max_abs_difference"]),
            f"accelerator: {summary['cycles_per_inference']:,.0f} cycles, {energy_uj:.1f} uJ an inference",
            f"ternary linears: {summary['bits_per_weight']:.3f} bits a weight on disk, scales included",
        ]
    )


@click.command(short_help="Run the whole pipeline of a configuration file; resumes where it was killed.")
@click.argument("configuration", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--out", "run_dir", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder of the run."
)
@click.option("--set", "overrides", multiple=True, metavar="KEY.PATH=VALUE", help="Override one key of the file.")
@click.option("--json", "as_json", is_flag=True, help="Print report.json on standard output.")
def run(configuration: Path, run_dir: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Run the whole pipeline: teacher, student, artifact, simulation, 2-bit bundle, verification, report.

    Called again with the same folder, it goes on where it was killed; a stage runs again when the
    configuration that it depends on has changed.

    \b
    Example:
      ti-qat run examples/movie_reviews/config.toml --out runs/movie_reviews
    """
    try:
        summary = run_pipeline(configuration, run_dir, overrides)
    except StageError as error:
        if error.exit_code == USAGE_ERROR:
            click.get_current_context().exit(USAGE_ERROR)  # the stage has said in a line what is wrong
        raise
    if as_json:
        click.echo(json.dumps(summary, indent=2))
    else:
        click.echo(as_text(summary))
        click.echo(f"report: {run_dir / 'report.html'}")
