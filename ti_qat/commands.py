"""The training verbs of `ti-qat`: each a thin shell over one typed function.

A verb imports torch only once its options, settings and task are known to be good: that takes seconds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ti_qat.config import StudentConfig, TeacherConfig, configure
from ti_qat.method.schedules import Method
from ti_qat.tasks.task_file import find_task
from ti_qat.training.checkpoints import newest_published_step

if TYPE_CHECKING:
    from ti_qat.evaluation import EvaluationResult
    from ti_qat.export import ExportResult
    from ti_qat.recipes import TrainingResult
    from ti_qat.sharing.publishing import PublishResult

EXISTING_DIR = click.Path(exists=True, file_okay=False, path_type=Path)
NEW_DIR = click.Path(file_okay=False, path_type=Path)


def _pushable(ctx: click.Context, parameter: click.Parameter, repo_id: str | None) -> str | None:
    if repo_id is not None:
        from ti_qat.sharing.model_hub import require_pushable

        require_pushable(repo_id)
    return repo_id


task_option = click.option(
    "--task", "task_name", required=True, metavar="NAME|FILE.toml", help="A GLUE task or a file."
)
data_option = click.option("--data", "data_dir", required=True, type=EXISTING_DIR, help="Folder of the task's files.")
out_option = click.option(
    "--out", required=True, type=NEW_DIR, help="Directory to write; unfinished work: OUT.partial."
)
replace_option = click.option(
    "--replace", is_flag=True, help="Replace what a run with other settings left in OUT; without it that is an error."
)
set_option = click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a setting.")
push_option = click.option(
    "--push-to-hub", "repo_id", metavar="ID", callback=_pushable, help="Upload what was written as a model of the hub."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")


def _tell(result: TrainingResult | EvaluationResult | ExportResult | PublishResult, as_json: bool, line: str) -> None:
    """Print the result, once however many processes have it."""
    from ti_qat.training.processes import processes

    values: dict[str, Any] = asdict(result)
    if processes().is_main_process:
        click.echo(json.dumps(values) if as_json else line)


def _summary(result: TrainingResult) -> str:
    done = ", done before" if result.done_before else ""
    steps = "1 step" if result.steps == 1 else f"{result.steps} steps"
    return f"{result.path}: {result.metric} {result.score:.4f} after {steps}{done}"


def _push(out: Path, repo_id: str | None) -> None:
    """Upload `out`, which is complete and told of, and say where it went; standard output stays the result's."""
    if repo_id is None:
        return
    from ti_qat.sharing.model_card import address_card
    from ti_qat.sharing.model_hub import push
    from ti_qat.training.processes import processes

    if processes().is_main_process:
        address_card(out, repo_id)
        click.echo(f"{out}: pushed to {push(out, repo_id)}", err=True)


def _quieten_libraries() -> None:
    """Keep the progress bars and notices of datasets and transformers off standard error, which is ours."""
    from datasets import disable_progress_bars
    from transformers.utils import logging

    disable_progress_bars()
    logging.disable_progress_bar()
    logging.set_verbosity_error()


@contextmanager
def _resumable(out: Path) -> Iterator[None]:
    """Let an interruption from the keyboard say where the same command goes on."""
    try:
        yield
    except KeyboardInterrupt:
        step = newest_published_step(out)
        if step is None:
            raise KeyboardInterrupt("interrupted before the first checkpoint; the same command starts again") from None
        kept = f"the work so far is kept in {out}.partial"
        raise KeyboardInterrupt(f"interrupted; {kept}, and the same command goes on from step {step}") from None


@click.command(short_help="Fine-tune the full-precision teacher.")
@click.option("--model", "source", required=True, metavar="DIR|ID", help="Pretrained encoder: a folder or a hub name.")
@task_option
@data_option
@out_option
@set_option
@replace_option
@push_option
@json_option
def teach(
    source: str,
    task_name: str,
    data_dir: Path,
    out: Path,
    overrides: tuple[str, ...],
    replace: bool,
    repo_id: str | None,
    as_json: bool,
) -> None:
    """Fine-tune the full-precision teacher. Called again after a kill, it goes on.

    \b
    Example:
      ti-qat teach --model bert-base-uncased --task sst2 --data glue --out teacher --set epochs=3
    """
    task = find_task(task_name)
    config = configure(TeacherConfig, overrides, task.name)
    with _resumable(out):
        from ti_qat import recipes

        _quieten_libraries()
        result = recipes.teach(source, task, data_dir, out, config, replace)
    _tell(result, as_json, _summary(result))
    _push(out, repo_id)


@click.command(short_help="Train the ternary student under teacher intervention.")
@click.option("--teacher", "teacher_dir", required=True, type=EXISTING_DIR, help="Directory that `teach` wrote.")
@task_option
@data_option
@click.option("--method", type=click.Choice([method.value for method in Method]), default="ti-g", show_default=True)
@out_option
@set_option
@replace_option
@push_option
@json_option
def train(
    teacher_dir: Path,
    task_name: str,
    data_dir: Path,
    method: str,
    out: Path,
    overrides: tuple[str, ...],
    replace: bool,
    repo_id: str | None,
    as_json: bool,
) -> None:
    """Train the ternary student under teacher intervention. Called again after a kill, it goes on.

    \b
    Example:
      ti-qat train --teacher teacher --task sst2 --data glue --method ti-g --out student
    """
    task = find_task(task_name)
    config = configure(StudentConfig, overrides, task.name)
    with _resumable(out):
        from ti_qat import recipes

        _quieten_libraries()
        result = recipes.train(teacher_dir, task, data_dir, Method(method), out, config, replace)
    _tell(result, as_json, _summary(result))
    _push(out, repo_id)


@click.command(short_help="Score a teacher or a student on a task's evaluation split.")
@click.argument("directory", type=EXISTING_DIR)
@task_option
@data_option
@json_option
def evaluate(directory: Path, task_name: str, data_dir: Path, as_json: bool) -> None:
    """Score a teacher or a student on a task's evaluation split, with latency and memory.

    \b
    Example:
      ti-qat evaluate student --task sst2 --data glue
    """
    task = find_task(task_name)
    from ti_qat import evaluation

    _quieten_libraries()
    result = evaluation.evaluate(directory, task, data_dir)
    size_mb, peak_mb = result.bytes / 1e6, result.peak_rss_bytes / 1e6
    line = f"{result.kind}: {result.metric} {result.score:.4f} on {result.rows} rows, {result.latency_ms:.1f} ms a row"
    _tell(result, as_json, f"{line}, {size_mb:.1f} MB on disk, peak {peak_mb:.0f} MB")


@click.command(short_help="Write a trained student as an artifact.")
@click.argument("student", type=EXISTING_DIR)
@click.option("--task", "task_name", metavar="NAME|FILE.toml", help="Default: the task it was trained on.")
@data_option
@click.option("--teacher", "teacher_dir", type=EXISTING_DIR, help="Its teacher, whose logits then travel along.")
@click.option("--out", required=True, type=NEW_DIR, help="Artifact directory to write.")
@json_option
def export(
    student: Path, task_name: str | None, data_dir: Path, teacher_dir: Path | None, out: Path, as_json: bool
) -> None:
    """Write a trained student as an artifact, and hold the NumPy oracle against it.

    \b
    Example:
      ti-qat export student --data glue --teacher teacher --out artifact
    """
    task = find_task(task_name) if task_name else None
    from ti_qat import export as exporting
    from ti_qat.artifact.evaluation import agreement_line

    _quieten_libraries()
    result = exporting.export(student, task, data_dir, out, teacher_dir)
    found = result.agreement
    teacher = "" if result.teacher_score is None else f", its teacher {result.teacher_score:.4f}"
    line = (
        f"{out}: {result.metric} {result.score:.4f} on {result.rows} rows{teacher}\n"
        "torch's float32 sums against the oracle's fixed order (docs/numerics.md, section 8),"
        f" {found.golden_rows} rows: {found.codes_different:,} of {found.codes_compared:,} codes differ, at most by"
        f" {found.largest_code_difference}; {agreement_line(found.label_agreement, found.largest_logit_difference)}"
    )
    _tell(result, as_json, line)


@click.command(short_help="Write a student with 2-bit weights for transformers, to share.")
@click.argument("student", type=EXISTING_DIR)
@click.option("--out", required=True, type=NEW_DIR, help="Checkpoint directory to write.")
@push_option
@json_option
def publish(student: Path, out: Path, repo_id: str | None, as_json: bool) -> None:
    """Write a student with 2-bit weights for transformers, which loads it after `import ti_qat`, and its model card.

    \b
    Example:
      ti-qat publish student --out packed --push-to-hub me/my-ternary-model
    """
    from ti_qat.sharing import publishing

    _quieten_libraries()
    result = publishing.publish(student, out)
    line = f"{out}: {result.bytes / 1e6:.1f} MB of weights instead of {result.student_bytes / 1e6:.1f} MB"
    _tell(result, as_json, line)
    _push(out, repo_id)
