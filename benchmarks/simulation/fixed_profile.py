"""What integers alone cost real students: the score under the fixed profile beside the exact one.

Teaches, trains and exports a student for every task, then simulates its whole evaluation split under both
profiles. What is there already is found again: artifacts by their folder, students and teachers by the verbs.
"""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks.simulation.summary import known_figures, merge_summary
from benchmarks.verbs import verb

# Epochs of teacher and student: 250 to 800 steps of 32 rows each, minutes on two cores.
EPOCHS = {"cola": (3.0, 2.0), "mrpc": (4.0, 4.0), "sst2": (0.25, 0.2)}


def student_artifact(task: str, glue: Path, model: str, work: Path) -> Path:
    """Return the artifact of a student of `task`, from an earlier call or trained now."""
    artifact = work / task / "artifact"
    if artifact.is_dir():
        return artifact
    teacher, student = artifact.with_name("teacher"), artifact.with_name("student")
    teacher_epochs, student_epochs = (("--set", f"epochs={epochs}") for epochs in EPOCHS[task])
    data, quiet = ("--task", task, "--data", glue), ("--set", "evaluate_every_steps=100000", "--json")
    artifact.parent.mkdir(parents=True, exist_ok=True)
    taught = verb("teach", "--model", model, *data, "--out", teacher, *teacher_epochs, *quiet)
    trained = verb("train", "--teacher", teacher, *data, "--out", student, *student_epochs, *quiet)
    click.echo(f"{task}: teacher {taught['score']:.4f}, student {trained['score']:.4f}", err=True)
    verb("export", student, "--data", glue, "--out", artifact, "--json")
    return artifact


def figures(artifact: Path, accelerator: str, out: Path) -> dict[str, object]:
    """Simulate an artifact's whole evaluation split under the fixed profile; return what that cost."""
    found = verb("simulate", artifact, "--accelerator", accelerator, "--profile", "fixed", "--out", out, "--json")
    fixed = found["fixed"]
    return {
        "metric": found["metric"],
        "rows": found["rows"],
        "fixed_score": found["score"],
        "exact_score": fixed["exact_score"],
        "loss_points": fixed["score_loss_points"],
        "label_flips": fixed["label_flips"],
        "saturated_values": fixed["saturated_values"],
        "overflow_events": found["overflow_events"],
    }


@click.command()
@click.option("--glue", type=click.Path(exists=True, path_type=Path), help="Official GLUE folder.")
@click.option("--model", help="Pretrained encoder: a folder or a hub name.")
@click.option("--work", type=click.Path(path_type=Path), required=True, help="Folder for what is made on the way.")
@click.option("--tasks", default=",".join(EPOCHS), show_default=True)
@click.option("--artifact", "artifacts", type=(str, click.Path(exists=True, path_type=Path)), multiple=True,
              help="A name and an artifact that is there already, such as the demo's.")  # fmt: skip
@click.option("--accelerator", default="wearable", show_default=True)
def main(
    glue: Path | None,
    model: str | None,
    work: Path,
    tasks: str,
    artifacts: tuple[tuple[str, Path], ...],
    accelerator: str,
) -> None:
    """Measure the tasks and the given artifacts; write `fixed_profile` and `fixed_profile_loss_points`."""
    found = dict(artifacts)
    if tasks:
        if glue is None or model is None:
            raise click.UsageError("--glue and --model are what the students of --tasks are made from")
        found |= {task: student_artifact(task, glue, model, work) for task in tasks.split(",")}
    results = known_figures().get("fixed_profile", {})  # of tasks that are not asked for now, too
    for name, artifact in found.items():
        results[name] = figures(artifact, accelerator, work / f"{name}.simulation")
        click.echo(f"{name}: {results[name]}")
    merge_summary(
        fixed_profile=results,
        fixed_profile_loss_points={name: result["loss_points"] for name, result in results.items()},
    )


if __name__ == "__main__":
    main()
