"""The tasks of GLUE: their files, columns, classes and metrics."""

from __future__ import annotations

from ti_qat.artifact.schema import Metric
from ti_qat.tasks.text_task import TextTask

ZERO_AND_ONE = ("0", "1")
ENTAILMENT = ("entailment", "not_entailment")

MNLI = TextTask(
    name="mnli",
    folder="MNLI",
    text_columns=("sentence1", "sentence2"),
    label_column="gold_label",  # the dev files also hold the single annotators' label1 to label5
    labels=("entailment", "neutral", "contradiction"),
    metric=Metric.ACCURACY,
    dev_file="dev_matched.tsv",
)

# Files and columns as in the official download, https://gluebenchmark.com/tasks. CoLA, MRPC and SST-2 were read
# from its files; the rest as transformers (data/processors/glue.py) and datasets (glue.py) read them. The order
# of the classes is that of the hub's `glue`. Metrics: Wang et al., GLUE, 2019, table 1 (F1 of its two for MRPC, QQP;
# for STS-B the mean of its two correlations, which is what GLUE's average counts).
GLUE_TASKS = {
    task.name: task
    for task in (
        TextTask(
            name="cola",
            folder="CoLA",
            header=("source", "label", "mark", "sentence"),
            text_columns=("sentence",),
            label_column="label",
            label_values=ZERO_AND_ONE,
            labels=("unacceptable", "acceptable"),
            metric=Metric.MATTHEWS,
        ),
        TextTask(
            name="sst2",
            folder="SST-2",
            text_columns=("sentence",),
            label_column="label",
            label_values=ZERO_AND_ONE,
            labels=("negative", "positive"),
            metric=Metric.ACCURACY,
        ),
        TextTask(
            name="mrpc",
            folder="MRPC",
            text_columns=("#1 String", "#2 String"),
            label_column="Quality",
            label_values=ZERO_AND_ONE,
            labels=("not_equivalent", "equivalent"),
            metric=Metric.F1,
        ),
        TextTask(
            name="qqp",
            folder="QQP",
            text_columns=("question1", "question2"),
            label_column="is_duplicate",
            label_values=ZERO_AND_ONE,
            labels=("not_duplicate", "duplicate"),
            metric=Metric.F1,
            # A few rows of the official train.tsv lack columns; every GLUE reader leaves them out.
            skip_malformed=True,
        ),
        TextTask(
            name="stsb",
            folder="STS-B",
            text_columns=("sentence1", "sentence2"),
            label_column="score",  # a similarity from 0 to 5
            metric=Metric.PEARSON_SPEARMAN,
        ),
        MNLI,
        MNLI.model_copy(update={"name": "mnli-mm", "dev_file": "dev_mismatched.tsv"}),
        TextTask(
            name="qnli",
            folder="QNLI",
            text_columns=("question", "sentence"),
            label_column="label",
            labels=ENTAILMENT,
            metric=Metric.ACCURACY,
        ),
        TextTask(
            name="rte",
            folder="RTE",
            text_columns=("sentence1", "sentence2"),
            label_column="label",
            labels=ENTAILMENT,
            metric=Metric.ACCURACY,
        ),
        TextTask(
            name="wnli",
            folder="WNLI",
            text_columns=("sentence1", "sentence2"),
            label_column="label",
            label_values=ZERO_AND_ONE,
            labels=("not_entailment", "entailment"),
            metric=Metric.ACCURACY,
        ),
    )
}
