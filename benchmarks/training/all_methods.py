"""Every method on real tasks, with a real encoder, from the teacher to a prediction: does it all run?

A few steps each, so the scores say nothing about the methods; docs and convergence studies have those. Each row
of the result is one student: its score in torch, and, for the methods of `--through`, on the simulated
accelerator and in the deployed bundle, with the codes that differ between the two (0 is what is promised).
"""

from __future__ import annotations

import csv
import json
import shlex
import sys
import time
from pathlib import Path

import click

from benchmarks.verbs import verb
from deploy.runtime.machine import machine
from ti_qat.method.schedules import Method

# Epochs of teacher and student: some 60 and 16 steps of 32 rows.
EPOCHS = {"cola": (0.25, 0.06), "mrpc": (0.6, 0.14), "sst2": (0.03, 0.0075), "stsb": (0.6, 0.14), "csv": (0.6, 0.14)}
CSV_TASK = """\
name = "csv"
format = "csv"
text_columns = ["text"]
label_column = "class"
labels = ["no", "yes"]
label_values = ["0", "1"]
metric = "f1"
"""
SIMULATED_ROWS = 64
STSB_COLUMNS = ("index", *(f"unused{i}" for i in range(6)), "sentence1", "sentence2", "score")


def pairs_of_mrpc(glue: Path, split: str) -> list[tuple[str, str, str]]:
    """Return label and both texts of the rows."""
    lines = (glue / "MRPC" / f"{split}.tsv").read_text(encoding="utf-8-sig").splitlines()[1:]
    return [(cells[0], cells[3], cells[4]) for cells in (line.split("\t") for line in lines)]


def write_derived(glue: Path, folder: Path) -> None:
    """Write two data sets of other shapes from MRPC: one as STS-B's files are, one a CSV of two columns.

    The similarity is the share of common words, from 0 to 5: something to learn, and no benchmark.
    """
    for split in ("train", "dev"):
        rows = pairs_of_mrpc(glue, split)
        (folder / "STS-B").mkdir(parents=True, exist_ok=True)
        with (folder / "STS-B" / f"{split}.tsv").open("w", encoding="utf-8") as file:
            file.write("\t".join(STSB_COLUMNS) + "\n")
            for index, (_, one, two) in enumerate(rows):
                words = set(one.lower().split()), set(two.lower().split())
                score = 5 * len(words[0] & words[1]) / len(words[0] | words[1])
                file.write("\t".join([str(index), *["-"] * 6, one, two, f"{score:.3f}"]) + "\n")
        with (folder / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "class"])
            writer.writerows((f"{one} {two}", label) for label, one, two in rows)
    (folder / "csv.toml").write_text(CSV_TASK, encoding="utf-8")


def deploy(student: Path, data: Path) -> dict[str, object]:
    """Take a student through every later stage; return what each of them says of it."""
    artifact, simulation, bundle = (student.with_name(f"{student.name}.{kind}") for kind in ("art", "sim", "bundle"))
    exported = verb("export", student, "--data", data, "--out", artifact, "--json")
    limit = ("--limit", SIMULATED_ROWS)
    simulated = verb("simulate", artifact, "--accelerator", "wearable", *limit, "--out", simulation, "--json")
    verb("pack", artifact, "--out", bundle, "--json")
    verified = verb("verify", artifact, bundle, "--simulation", simulation, "--json")
    texts = json.loads((artifact / "artifact.json").read_text(encoding="utf-8"))["task"]["text_columns"]
    predicted = verb("predict", bundle, "\t".join(["a fine little film"] * len(texts)), "--json")
    return {"exported": exported, "simulated": simulated, "verified": verified, "predicted": predicted}


@click.command()
@click.option("--glue", type=click.Path(exists=True, path_type=Path), required=True, help="Official GLUE folder.")
@click.option("--model", required=True, help="Pretrained encoder: a folder or a hub name.")
@click.option("--work", type=click.Path(path_type=Path), required=True, help="Folder for what is made on the way.")
@click.option("--tasks", default=",".join(EPOCHS), show_default=True)
@click.option("--methods", default=",".join(Method), show_default=True)
@click.option("--through", default="ti-g", show_default=True, help="Methods that are also simulated and deployed.")
@click.option("--out", type=click.Path(path_type=Path), default=Path(__file__).with_name("all_methods.json"))
def main(glue: Path, model: str, work: Path, tasks: str, methods: str, through: str, out: Path) -> None:
    """Run the methods on the tasks; a student that is there already is not trained again."""
    write_derived(glue, work / "derived")
    rows = []
    for name in tasks.split(","):
        folder, data = work / name, work / "derived" if name in ("stsb", "csv") else glue
        folder.mkdir(parents=True, exist_ok=True)
        task = ("--task", data / "csv.toml" if name == "csv" else name, "--data", data)
        quiet = ("--set", "evaluate_every_steps=100000", "--json")
        teacher_epochs, student_epochs = (("--set", f"epochs={epochs}") for epochs in EPOCHS[name])
        teacher = verb("teach", "--model", model, *task, "--out", folder / "teacher", *teacher_epochs, *quiet)
        for method in methods.split(","):
            began_s, student = time.perf_counter(), folder / method
            options = ("--teacher", folder / "teacher", "--method", method, *student_epochs, *quiet)
            trained = verb("train", *task, "--out", student, *options)
            row = {"task": name, "method": method, "metric": trained["metric"], "steps": trained["steps"]}
            row |= {"teacher": teacher["score"], "student": trained["score"]}
            if method in through.split(","):
                row["later_stages"] = deploy(student, data)
            rows.append(row)
            click.echo(f"{name} {method}: {trained['score']:.4f} in {time.perf_counter() - began_s:.0f} s", err=True)
            command = shlex.join(["python", "-m", "benchmarks.training.all_methods", *sys.argv[1:]])
            out.write_text(json.dumps({"command": command, "machine": machine(), "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
