import logging
import os
from pathlib import Path

import pytest

from ti_qat.artifact.schema import Metric, Task
from ti_qat.errors import TaskError
from ti_qat.tasks.data import read_rows, task_file
from ti_qat.tasks.glue import GLUE_TASKS
from ti_qat.tasks.task_file import find_task

MNLI_TRAIN = (
    "index promptID pairID genre sentence1_binary_parse sentence2_binary_parse sentence1_parse sentence2_parse"
    " sentence1 sentence2 label1 gold_label"
)
MNLI_DEV = MNLI_TRAIN.replace("label1", "label1 label2 label3 label4 label5")
STSB = "index genre filename year old_index source1 source2 sentence1 sentence2 score"
QQP = "id qid1 qid2 question1 question2 is_duplicate"


def write_tsv(file, *rows):
    """Rows of fields apart by spaces, as the official files' headers hold no space."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join("\t".join(row.split()) + "\n" for row in rows), encoding="utf-8")


def read(name, data_dir, part="dev_file"):
    task = find_task(name)
    return read_rows(task, task_file(task, data_dir, getattr(task, part)))


def test_the_table_is_that_of_the_glue_paper():
    metrics = {name: task.metric for name, task in GLUE_TASKS.items()}
    assert list(metrics) == ["cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "mnli-mm", "qnli", "rte", "wnli"]
    assert {name for name, metric in metrics.items() if metric is Metric.F1} == {"mrpc", "qqp"}
    assert {name for name, metric in metrics.items() if metric is Metric.MATTHEWS} == {"cola"}
    assert {name for name, metric in metrics.items() if metric is Metric.PEARSON_SPEARMAN} == {"stsb"}
    assert {task.name: len(task.labels) for task in GLUE_TASKS.values() if len(task.labels) > 2} == {
        "mnli": 3,
        "mnli-mm": 3,
    }


def test_stsb_reads_scores_and_keeps_quotes(tmp_path):
    write_tsv(
        tmp_path / "STS-B/train.tsv", STSB, '0 g f 2012 1 none none "A A. 5.000', '1 g f 2012 2 none none B C" 0.6'
    )
    rows = read("stsb", tmp_path, "train_file")
    assert (rows.texts, rows.labels) == ((('"A', "B"), ("A.", 'C"')), (5.0, 0.6))
    assert find_task("stsb").describe() == Task(
        name="stsb", labels=("score",), metric=Metric.PEARSON_SPEARMAN, text_columns=("sentence1", "sentence2")
    )


def test_a_score_that_is_no_number_is_an_error(tmp_path):
    write_tsv(tmp_path / "STS-B/dev.tsv", STSB, "0 g f 2012 1 n n A B 5", "1 g f 2012 2 n n A B high")
    with pytest.raises(TaskError, match=r"STS-B/dev.tsv: line 3: score: expected a finite number, .* found 'high'"):
        read("stsb", tmp_path)


def test_mnli_takes_the_gold_label_and_the_dev_files_of_both_kinds(tmp_path):
    write_tsv(tmp_path / "MNLI/train.tsv", MNLI_TRAIN, "0 1 2 g a b c d premise hypothesis neutral contradiction")
    gold = "0 1 2 g a b c d {} other neutral neutral neutral neutral neutral entailment"
    write_tsv(tmp_path / "MNLI/dev_matched.tsv", MNLI_DEV, gold.format("matched"))
    write_tsv(tmp_path / "MNLI/dev_mismatched.tsv", MNLI_DEV, gold.format("mismatched"))
    train = read("mnli", tmp_path, "train_file")
    assert (train.texts, train.labels) == ((("premise",), ("hypothesis",)), (2,))
    assert (read("mnli", tmp_path).texts[0], read("mnli", tmp_path).labels) == (("matched",), (0,))
    assert read("mnli-mm", tmp_path).texts[0] == ("mismatched",)
    assert read("mnli-mm", tmp_path, "train_file") == train


@pytest.mark.parametrize(
    ("name", "folder", "header", "row", "texts", "label"),
    [
        ("qnli", "QNLI", "index question sentence label", "0 who he not_entailment", (("who",), ("he",)), 1),
        ("rte", "RTE", "index sentence1 sentence2 label", "0 a b entailment", (("a",), ("b",)), 0),
        ("wnli", "WNLI", "index sentence1 sentence2 label", "0 a b 1", (("a",), ("b",)), 1),
        ("qqp", "QQP", QQP, "0 1 2 why how 1", (("why",), ("how",)), 1),
        ("sst2", "SST-2", "sentence label", "fine 1", (("fine",),), 1),
    ],
)
def test_official_columns_are_read_by_name(tmp_path, name, folder, header, row, texts, label):
    write_tsv(tmp_path / folder / "dev.tsv", header, row)
    rows = read(name, tmp_path)
    assert (rows.texts, rows.labels) == (texts, (label,))


def test_malformed_rows_of_qqp_are_skipped_and_counted(tmp_path, caplog):
    write_tsv(tmp_path / "QQP/train.tsv", QQP, "0 1 2 why how 1", "1 3 4 cut", "2 5 6 who what 0", "off")
    with caplog.at_level(logging.WARNING):
        rows = read("qqp", tmp_path, "train_file")
    assert (rows.labels, rows.skipped) == ((1, 0), 2)
    assert "QQP/train.tsv: skipped 2 malformed rows of 4; the first is line 3" in caplog.text


def test_a_wrong_label_of_qqp_is_still_an_error(tmp_path):
    write_tsv(tmp_path / "QQP/train.tsv", QQP, "0 1 2 why how maybe")
    with pytest.raises(TaskError, match="line 2: is_duplicate: expected 0 or 1, found 'maybe'"):
        read("qqp", tmp_path, "train_file")


def test_malformed_rows_of_other_tasks_are_errors(tmp_path):
    write_tsv(tmp_path / "RTE/dev.tsv", "index sentence1 sentence2 label", "0 a b entailment", "1 a")
    with pytest.raises(TaskError, match=r"RTE/dev.tsv: line 3: expected 4 fields, found 2"):
        read("rte", tmp_path)


@pytest.mark.parametrize(
    ("name", "part", "rows", "positive"),
    [
        ("mrpc", "train_file", 3668, 2474),  # as its source states them
        ("mrpc", "dev_file", 408, 279),
        ("sst2", "train_file", 67349, 37569),
        ("sst2", "dev_file", 872, 444),
        ("cola", "train_file", 8551, 6023),
    ],
)
def test_the_official_files_are_read_whole(name, part, rows, positive):
    glue = os.environ.get("TI_QAT_GLUE")
    if not glue:
        pytest.skip("TI_QAT_GLUE does not name a folder with the official GLUE files")
    found = read(name, Path(glue), part)
    assert (len(found.labels), sum(found.labels)) == (rows, positive)
