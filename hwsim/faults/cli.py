"""The verb `ti-qat upsets`."""

from __future__ import annotations

from pathlib import Path

import click

from hwsim.config import read_accelerator
from hwsim.datapath.batches import rows_to_run
from hwsim.errors import SimulatorError
from hwsim.faults.campaign import inject_upsets
from hwsim.faults.page import JSON_FILE, write_upsets
from hwsim.faults.plan import UpsetPlan
from hwsim.faults.results import Upsets
from hwsim.faults.run_log import RunLog
from hwsim.faults.targets import TargetName
from hwsim.faults.word_codes import OnDetection, Protection
from hwsim.options import accelerator_option
from hwsim.progress import progress_bars
from ti_qat.artifact import io
from ti_qat.artifact.atomic import require_replaceable

DEFAULT_RATES = "1e-6,1e-5,1e-4,1e-3,1e-2"


def upset_artifact(
    artifact_dir: Path, accelerator_name: str, plan: UpsetPlan, out_dir: Path, limit: int | None = None
) -> Upsets:
    """Upset an artifact's evaluation split and write the results to `out_dir`; a killed campaign goes on.

    Raises ArtifactError, SimulatorError or OutputError.
    """
    accelerator = read_accelerator(accelerator_name)
    require_replaceable(out_dir, JSON_FILE)
    artifact = io.load(artifact_dir)
    rows = rows_to_run(artifact, limit)
    log = RunLog(out_dir, artifact, accelerator, plan, rows)
    with progress_bars("upsets") as bar:
        task = bar.add_task("rows", total=rows * (1 + len(plan.runs)))
        found = inject_upsets(
            artifact, accelerator, plan, limit=rows, log=log, on_progress=lambda done: bar.advance(task, done)
        )
    write_upsets(out_dir, found)
    log.remove()
    return found


def _rates(_ctx: click.Context, _parameter: click.Parameter, text: str) -> tuple[float, ...]:
    try:
        return tuple(dict.fromkeys(float(part) for part in text.split(",")))
    except ValueError as error:
        raise SimulatorError("upsets", "--rates", expected="numbers and commas", found=repr(text)) from error


def _protections(_ctx: click.Context, _parameter: click.Parameter, text: str) -> tuple[Protection, ...]:
    try:
        return tuple(dict.fromkeys(Protection(part.strip()) for part in text.split(",")))
    except ValueError as error:
        expected = f"{', '.join(Protection)}, or several with commas"
        raise SimulatorError("upsets", "--protection", expected=expected, found=repr(text)) from error


@click.command(short_help="Flip bits of memories and accumulators; score against rate and protection.")
@click.argument("artifact", type=click.Path(path_type=Path))
@accelerator_option
@click.option("--target", type=click.Choice([name.value for name in TargetName]), required=True, help="What flips.")
@click.option(
    "--rates", default=DEFAULT_RATES, show_default=True, callback=_rates, help="Flips a stored bit and inference."
)
@click.option(
    "--protection",
    "protections",
    default=Protection.NONE.value,
    show_default=True,
    metavar="none,parity,secded",
    callback=_protections,
    help="Of every word; several are run one after the other.",
)
@click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True, help="Runs of each rate.")
@click.option("--word-bits", type=int, default=64, show_default=True, help="Data bits of a memory's word.")
@click.option(
    "--on-detection",
    type=click.Choice([action.value for action in OnDetection]),
    default=OnDetection.ZERO.value,
    show_default=True,
    help="Of a word that cannot be corrected: read it as zeros, or again from DRAM (weights).",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="ROWS", help="Only the first rows of the split.")
@click.option("--out", "out_dir", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option("--json", "as_json", is_flag=True, help="Print upsets.json on standard output.")
def upsets(
    artifact: Path,
    accelerator: str,
    target: str,
    rates: tuple[float, ...],
    protections: tuple[Protection, ...],
    seeds: int,
    word_bits: int,
    on_detection: str,
    limit: int | None,
    out_dir: Path,
    as_json: bool,
) -> None:
    """Run an artifact's evaluation split while single bits flip; report the score against the rate.

    \b
    Example:
      ti-qat upsets artifact --accelerator wearable --target weights --protection none,secded --out upsets
    """
    plan = UpsetPlan(TargetName(target), rates, protections, tuple(range(seeds)), word_bits, OnDetection(on_detection))
    found = upset_artifact(artifact, accelerator, plan, out_dir, limit)
    click.echo(found.model_dump_json() if as_json else _described(found))


def _described(found: Upsets) -> str:
    """Return the curves as lines."""
    lines = [f"{found.target}: {found.metric} {found.fault_free_score:.4f} on {found.rows} rows without faults"]
    for curve in found.curves:
        lines.append(f"{curve.protection}:")
        for i, rate in enumerate(curve.rates):
            line = f"  rate {rate:g}: {curve.score_mean[i]:.4f} (deviation {curve.score_std[i]:.4f})"
            if curve.label_flips_mean is not None and curve.label_flips_std is not None:
                line += f", {curve.label_flips_mean[i]:.1f} labels flipped ({curve.label_flips_std[i]:.1f})"
            lines.append(line)
    return "\n".join(lines)
