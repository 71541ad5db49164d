"""Draws a run's report: one page without any outside resource, from what the stages left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from hwsim.reporting import run_figures
from hwsim.reporting.charts import Chart
from hwsim.reporting.inputs import parse, read_simulation, read_text
from hwsim.reporting.page import render_page
from hwsim.reporting.png_charts import PICTURES_FOLDER, write_pictures
from hwsim.reporting.simulation_figures import simulation_charts
from hwsim.simulate import Simulation
from ti_qat.artifact.atomic import write_whole
from ti_qat.artifact.evaluation import agreement_line

JSON_FILE, HTML_FILE, TRAINING_FILE = "report.json", "report.html", "training.jsonl"
SIMULATION_FOLDER = "simulation"
# From which the deployed model counts as the student: rows with its label; for a regression, distance of the scores.
LEAST_LABEL_AGREEMENT, LARGEST_SCORE_DIFFERENCE = 0.995, 0.005


class StageFigures(BaseModel):
    """One row of the report's table; None where a figure does not apply or was not taken."""

    model_config = ConfigDict(frozen=True)

    score: float | None = None
    bytes: int | None = None
    peak_rss_bytes: int | None = None
    latency_ms: float | None = None


class Stages(BaseModel):
    """The four forms of the same model."""

    model_config = ConfigDict(frozen=True)

    teacher: StageFigures
    student: StageFigures
    simulated: StageFigures
    deployed: StageFigures


class Agreement(BaseModel):
    """How far the stages computed the same; None where a check did not run or, as labels in a regression, is none."""

    model_config = ConfigDict(frozen=True)

    codes_compared: int | None
    code_mismatches: int | None
    label_agreement: float | None
    logits_max_abs_difference: float | None
    isa_bit_identical: bool | None
    threads_bit_identical: bool | None


class Summary(BaseModel):
    """report.json as the pipeline writes it; fields of later versions are passed over."""

    model_config = ConfigDict(frozen=True)

    schema_version: Literal[1]
    stages: Stages
    agreement: Agreement
    energy_pj_per_inference: float
    cycles_per_inference: float
    title: str = "From a pretrained encoder to 2-bit inference"
    metric: str = "score"
    evaluation_rows: int | None = None
    bits_per_weight: float | None = None
    seconds_per_stage: dict[str, float] = {}
    machine: dict[str, str | int | float | None] = {}
    versions: dict[str, str] = {}


class TrainingPoint(BaseModel):
    """One line of training.jsonl: losses of a step, or the score after it."""

    model_config = ConfigDict(frozen=True)

    step: int
    loss: float | None = None
    loss_hidden: float | None = None
    loss_attention_scores: float | None = None
    loss_attention_map: float | None = None
    loss_attention_output: float | None = None
    loss_logits: float | None = None
    loss_labels: float | None = None
    learning_rate: float | None = None
    intervention: str | None = None
    score: float | None = None


def read_summary(file: Path) -> Summary:
    """Read report.json. Raises SimulatorError naming the field that is wrong."""
    return parse(file, read_text(file), Summary)


def read_training(file: Path) -> tuple[TrainingPoint, ...]:
    """Read training curves; an absent file is an empty curve. Raises SimulatorError."""
    if not file.is_file():
        return ()
    lines = read_text(file).splitlines()
    return tuple(parse(f"{file}:{number}", line, TrainingPoint) for number, line in enumerate(lines, 1) if line)


def report_run(run_dir: Path) -> Summary:
    """Write RUN/report.html and RUN/figures from RUN/report.json, RUN/simulation and the training curves.

    Raises SimulatorError where one of them is missing or malformed; curves may be missing.
    """
    summary = read_summary(run_dir / JSON_FILE)
    simulation = read_simulation(run_dir / SIMULATION_FOLDER)
    curves = {name: read_training(run_dir / name / TRAINING_FILE) for name in ("teacher", "student")}
    drawn = run_charts(summary, curves)
    page = render(summary, simulation, drawn)
    write_pictures(run_dir / PICTURES_FOLDER, drawn)
    write_whole(run_dir / HTML_FILE, page)
    return summary


def run_charts(summary: Summary, curves: dict[str, tuple[TrainingPoint, ...]]) -> tuple[Chart, ...]:
    """Return the figures of a run beside those of its simulation."""
    return (*run_figures.durations(summary.seconds_per_stage), *run_figures.training(curves))


def render(summary: Summary, simulation: Simulation, drawn: tuple[Chart, ...]) -> str:
    """Return the page; `drawn` are the run's own figures."""
    simulated = simulation_charts(simulation)
    return render_page(
        Path(__file__).with_name("report.html.j2"),
        title=summary.title,
        figures=(*simulated, *drawn),
        summary=summary,
        simulation=simulation,
        simulation_figures=simulated,
        run_figures=drawn,
        badges=_badges(summary, simulation),
    )


def _badges(summary: Summary, simulation: Simulation) -> list[tuple[str, bool | None]]:
    """Return (statement, whether it holds; None where it was not checked)."""
    agreement = summary.agreement
    mismatches = agreement.code_mismatches
    compared = f"{agreement.codes_compared:,}" if agreement.codes_compared is not None else "no"
    found = "not counted" if mismatches is None else f"{mismatches:,} mismatches"
    return [
        (
            f"int8 codes, simulator against CPU: {found} in {compared} compared",
            None if mismatches is None else mismatches == 0,
        ),
        _as_the_student(summary),
        ("the same logits, bit for bit, on every instruction set", agreement.isa_bit_identical),
        ("the same logits, bit for bit, on 1 and 2 threads", agreement.threads_bit_identical),
        (f"accumulator overflows: {simulation.overflow_events:,}", simulation.overflow_events == 0),
    ]


def _as_the_student(summary: Summary) -> tuple[str, bool | None]:
    """Return the badge on what is deployed against the torch student: its labels or, in a regression, its score."""
    labels, difference = summary.agreement.label_agreement, summary.agreement.logits_max_abs_difference
    if difference is None:
        return "the torch student's predictions: not compared", None
    statement = agreement_line(labels, difference)
    if labels is not None:
        return statement, labels >= LEAST_LABEL_AGREEMENT
    student, deployed = summary.stages.student.score, summary.stages.deployed.score
    if student is None or deployed is None:
        return statement, None
    distance = abs(student - deployed)
    return f"{statement}, its score within {distance:.4f}", distance <= LARGEST_SCORE_DIFFERENCE
