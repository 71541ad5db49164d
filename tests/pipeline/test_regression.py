"""A regression of the shape of GLUE's STS-B through the whole pipeline, on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from scipy import stats

from tests.builders import WORDS
from tests.training.models import tiny_teacher, tiny_tokenizer
from ti_qat.artifact import io
from ti_qat.cli import main

pytestmark = pytest.mark.slow

HEADER = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore"
CONFIG = """
[task]
name = "stsb"
data = "glue"
[model]
path = "model"
[teacher]
settings = { epochs = 12, batch_size = 8, max_length = 16, learning_rate = 2e-3, evaluate_every_steps = 40 }
[student]
settings = { epochs = 4, batch_size = 8, learning_rate = 2e-3, evaluate_every_steps = 40 }
"""


def write_stsb(folder: Path, rows: int = 96) -> None:
    """Pairs whose score, from 0 to 5, is the share of their words that are `good`."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for name in ("train", "dev"):
        lines = [HEADER]
        for row in range(rows):
            good = rng.random(8) < rng.random()
            words = np.where(good, "good", rng.choice([word for word in WORDS if word != "good"], 8))
            first, second = " ".join(words[:4]), " ".join(words[4:])
            lines.append(f'{row}\tg\tf\t2012\t{row}\tnone\tnone\t"{first}\t{second}\t{5 * good.mean():.3f}')
        (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def ti_qat(*arguments: str | Path, **options: str) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], **options)
    assert result.exit_code == 0, result.stderr
    return result


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("regression")
    tiny_teacher().bert.save_pretrained(folder / "model")  # without its head of two classes
    tiny_tokenizer().save_pretrained(folder / "model")
    write_stsb(folder / "glue" / "STS-B")
    (folder / "config.toml").write_text(CONFIG)
    told = ti_qat("run", folder / "config.toml", "--out", folder / "run").stdout
    assert "pearson_spearman" in told
    assert "of the torch student's" in told
    return folder / "run"


def test_teacher_and_student_learn_numbers(run_dir: Path) -> None:
    stages = json.loads((run_dir / "report.json").read_text())["stages"]
    # The score of a model that predicts without looking is 0 on average, its deviation 1/sqrt(96), about 0.1.
    assert stages["teacher"]["score"] > 0.5
    assert stages["student"]["score"] > 0.5


def test_every_stage_computes_the_same_numbers(run_dir: Path) -> None:
    report = json.loads((run_dir / "report.json").read_text())
    assert report["metric"] == "pearson_spearman"
    assert report["stages"]["simulated"]["score"] == report["stages"]["deployed"]["score"]
    agreement = report["agreement"]
    assert (agreement["code_mismatches"], agreement["label_agreement"]) == (0, None)
    assert agreement["threads_bit_identical"] is True
    # A code that falls on the other side of a rounding tie moves a prediction by a small part of the scale of 5.
    assert agreement["logits_max_abs_difference"] < 0.25
    assert "predictions within" in (run_dir / "report.html").read_text()


def test_what_predict_prints_scores_as_the_report_says(run_dir: Path) -> None:
    rows = [line.split("\t") for line in (run_dir.parent / "glue/STS-B/dev.tsv").read_text().splitlines()[1:]]
    pairs = "\n".join(f"{row[7]}\t{row[8]}" for row in rows)
    printed = ti_qat("predict", run_dir / "bundle", "--pairs", "--json", input=pairs).stdout
    found = [row["score"] for row in json.loads(printed)["predictions"]]
    labels = [np.float64(np.float32(row[9])) for row in rows]
    expected = (stats.pearsonr(labels, found).statistic + stats.spearmanr(labels, found).statistic) / 2
    score = json.loads((run_dir / "report.json").read_text())["stages"]["deployed"]["score"]
    assert score == pytest.approx(expected, abs=1e-12)  # sums in another order in binary64


def test_artifact_bundle_and_evaluation_speak_of_one_number(run_dir: Path) -> None:
    artifact = io.load(run_dir / "artifact")
    assert artifact.evaluation.labels.dtype == np.float32
    for output in ("artifact", "bundle"):
        assert "score" in ti_qat("inspect", run_dir / output).stdout
    student = json.loads((run_dir / "student/config.json").read_text())
    assert (student["id2label"], student["problem_type"]) == ({"0": "score"}, "regression")
    told = ti_qat("evaluate", run_dir / "teacher", "--task", "stsb", "--data", run_dir.parent / "glue").stdout
    assert told.startswith("teacher: pearson_spearman 0.")
