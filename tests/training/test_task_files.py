import json
import re

import datasets
import numpy as np
import pytest

from ti_qat.errors import TaskError
from ti_qat.tasks.data import read_rows, task_file
from ti_qat.tasks.task_file import find_task
from ti_qat.tasks.text_task import TextTask

FIELDS = {
    "name": "t",
    "text_columns": ["text"],
    "label_column": "label",
    "labels": ["negative", "positive"],
    "metric": "accuracy",
}


REGRESSION = {"labels": ["rating"], "metric": "spearman_correlation"}


def task(**changes):
    return TextTask.model_validate({**FIELDS, **changes})


def write(path, text):
    path.write_text(text, encoding="utf-8", newline="")
    return path


def read(tmp_path, name, text, **changes):
    return read_rows(task(**changes), write(tmp_path / name, text))


def refused(tmp_path, name, text, message, **changes):
    with pytest.raises(TaskError, match=message) as error:
        read(tmp_path, name, text, **changes)
    assert str(tmp_path / name) in str(error.value)


def test_csv_has_quotes_commas_and_line_breaks_in_fields(tmp_path):
    text = '\ufefflabel,text\r\npositive,"a ""fine"", long\r\nfilm"\r\n\r\nnegative,\u2028dull\r\n'
    rows = read(tmp_path, "dev.csv", text)
    assert (rows.texts, rows.labels) == ((('a "fine", long\r\nfilm', "\u2028dull"),), (1, 0))


def test_jsonl_has_escapes_and_other_fields(tmp_path):
    text = '\ufeff{"id": 1, "text": "a \\"fine\\"\\nfilm \u2028", "label": "positive"}\r\n\r\n'
    assert read(tmp_path, "dev.jsonl", text).texts == (('a "fine"\nfilm \u2028',),)


def test_tsv_keeps_a_lone_carriage_return_and_quotes(tmp_path):
    text = '\ufefftext\tlabel\r\n"a\rb\tpositive\r\n'
    assert read(tmp_path, "dev.tsv", text).texts == (('"a\rb',),)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("dev.tsv", "text\tlabel\n\tpositive\n"),
        ("dev.csv", "text,label\n,positive\n"),
        ("dev.jsonl", '{"text": "", "label": "positive"}\n'),
    ],
)
def test_an_empty_text_is_a_text(tmp_path, name, text):
    rows = read(tmp_path, name, text)
    assert (rows.texts, rows.labels) == ((("",),), (1,))


@pytest.mark.parametrize(
    ("values", "written"), [([0, 1], ["0", "1"]), ([False, True], ["false", "true"]), (["0", "1"], ['"0"', '"1"'])]
)
def test_labels_are_strings_whole_numbers_or_booleans(tmp_path, values, written):
    text = "".join(f'{{"text": "x", "label": {value}}}\n' for value in written)
    assert read(tmp_path, "dev.jsonl", text, label_values=values).labels == (0, 1)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("dev.csv", "text,label\nx,3.8\ny, -2 \nz,1e-3\n"),
        ("dev.jsonl", "".join(f'{{"text": "x", "label": {value}}}\n' for value in ("3.8", '"-2"', "0.001"))),
    ],
)
def test_the_label_of_a_regression_is_a_number(tmp_path, name, text):
    assert read(tmp_path, name, text, **REGRESSION).labels == (3.8, -2, 0.001)


@pytest.mark.parametrize("value", ["", "3,8", "nan", "-inf", "1e39", "1_0", "five"])
def test_a_label_that_is_no_finite_number_names_its_line(tmp_path, value):
    message = f"line 3: label: expected a finite number, with a point for decimals, found '{value}'"
    refused(tmp_path, "dev.tsv", f"text\tlabel\nx\t1\ny\t{value}\n", message, **REGRESSION)


@pytest.mark.parametrize("value", ["true", "null", "[1]"])
def test_json_that_is_no_number_is_no_label_of_a_regression(tmp_path, value):
    text = f'{{"text": "x", "label": {value}}}\n'
    refused(tmp_path, "dev.jsonl", text, f"line 1: label: expected a number, found {re.escape(value)}", **REGRESSION)


def test_a_regression_is_named_by_its_column_unless_it_is_named():
    fields = {name: value for name, value in FIELDS.items() if name != "labels"} | {"metric": "pearson_correlation"}
    unnamed, named = TextTask.model_validate(fields), TextTask.model_validate(fields | {"labels": ["rating"]})
    assert (unnamed.labels, named.labels) == (("label",), ("rating",))
    assert TextTask.model_validate_json(unnamed.model_dump_json()) == unnamed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("text,labels\nx,positive\n", "expected a column 'label', found text, labels"),
        ("text,label,text\nx,positive,y\n", "expected one column 'text', found 2"),
        ('text,label\n"a\nb",positive\nx\n', "line 4: expected 2 fields, found 1"),
        ('text,label\nx,positive\n"a"b,positive\n', "line 3: expected CSV: ',' expected after '\"'"),
        ('text,label\nx,positive\n"open,positive\ny,positive\n', "line 3: expected CSV: unexpected end of data"),
        ('text,label\n"a\nb",maybe\n', "line 2: label: expected negative or positive, found 'maybe'"),
        ("text,label\n", "expected rows, found none"),
        ("", "expected a column 'text', found no columns"),
    ],
)
def test_bad_csv_names_file_line_and_column(tmp_path, text, message):
    refused(tmp_path, "dev.csv", text, message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"text": "x", "label": "positive"}\n{"text": "x"\n', "line 2: expected a JSON object: Expecting"),
        ('["x", "positive"]\n', "line 1: expected a JSON object, found list"),
        ('{"text": "x"}\n', "line 1: expected a field 'label', found text"),
        ('{"text": null, "label": "positive"}\n', "line 1: text: expected a string, found null"),
        ('{"text": "x", "label": 1.0}\n', "line 1: label: expected a string, a whole number or a boolean, found 1.0"),
        ('{"text": "x", "label": 1}\n', "line 1: label: expected negative or positive, found '1'"),
        ('{"text": "x", "text": "y", "label": "positive"}\n', "line 1: .* a field is there twice"),
        ("", "expected rows, found none"),
    ],
)
def test_bad_jsonl_names_file_line_and_field(tmp_path, text, message):
    refused(tmp_path, "dev.jsonl", text, message)


def test_text_that_is_not_utf8_is_refused_with_its_line(tmp_path):
    file = tmp_path / "dev.tsv"
    file.write_bytes(b"\xef\xbb\xbftext\tlabel\nx\tpositive\nna\xefve\tpositive\n")
    with pytest.raises(TaskError, match=r"dev.tsv: line 3: expected UTF-8"):
        read_rows(task(), file)


def test_csv_without_a_header_row_and_with_malformed_rows(tmp_path):
    rows = read(tmp_path, "dev.csv", "positive,x\ncut\n", header=["label", "text"], skip_malformed=True)
    assert (rows.texts, rows.labels, rows.skipped) == ((("x",),), (1,), 1)


def test_the_format_is_the_ending_unless_given(tmp_path):
    assert (task(format="csv").train_file, task(format="csv").dev_file) == ("train.csv", "dev.csv")
    assert (task().train_file, task().dev_file) == ("train.tsv", "dev.tsv")
    rows = read(tmp_path, "data.txt", "text,label\nx,positive\n", format="csv", train_file="data.txt")
    assert rows.labels == (1,)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('train_file = "train.txt"', "train.txt: expected an ending .tsv, .csv or .jsonl, or the field format"),
        ('format = "xlsx"', "format: Input should be 'tsv', 'csv', 'jsonl' or 'txt', found 'xlsx'"),
        ('format = "jsonl"\nheader = ["text", "label"]', "header and skip_malformed are for tsv and csv"),
        ('header = ["text"]', "header names no column 'label'"),
        ('metric = "pearson_spearman"', "metric pearson_spearman expects one label, the number's name, labels has 2"),
        ('labels = ["one"]', "metric accuracy expects the names of two or more classes, labels has 1"),
        ('labels = ["one"]\nmetric = "pearson_spearman"\nlabel_values = [0]', "label_values is for classes"),
        ("label_values = [0]", "label_values has 1 entries, labels has 2"),
        ("label_values = [1, 1]", "label_values names '1' twice"),
        ("label_values = [0.5, 1]", "label_values.0: .*expected a string, a whole number or a boolean, found 0.5"),
        ('hub_config = "sst2"', "hub_config needs hub"),
        ('hub = "glue"\ndev_file = "dev.tsv"', "hub: splits are kept as .jsonl files"),
    ],
)
def test_a_bad_task_file_names_file_and_field(tmp_path, line, message):
    lines = [f"{key} = {json.dumps(value)}" for key, value in FIELDS.items() if f"{key} = " not in f"\n{line}"]
    file = write(tmp_path / "task.toml", "\n".join([*lines, line]))
    with pytest.raises(TaskError, match=message) as error:
        find_task(str(file))
    assert str(file) in str(error.value)


def test_a_task_survives_being_written_beside_a_model():
    for original in (task(format="csv", label_values=[0, 1]), task(hub="nyu-mll/glue", hub_config="sst2")):
        assert TextTask.model_validate_json(original.model_dump_json()) == original


@pytest.fixture
def hub_folder(tmp_path, monkeypatch):
    """A data set folder as the hub serves it: named classes, one configuration, an unlabelled test split."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["negative", "positive"])}
    )
    folder, files = tmp_path / "hub", []
    for split, labels in (("train", [1, 0, 1]), ("validation", [0]), ("test", [-1])):
        columns = {"text": [f"{split} \u2028\n{row}" for row in range(len(labels))], "label": labels}
        rows = datasets.Dataset.from_dict(columns, features=features)
        rows.to_parquet(folder / "sst2" / f"{split}.parquet")
        files += [f"  - split: {split}", f"    path: sst2/{split}.parquet"]
    write(folder / "README.md", "\n".join(["---", "configs:", "- config_name: sst2", "  data_files:", *files, "---"]))
    return folder


def test_splits_of_the_hub_are_brought_once_and_kept(tmp_path, hub_folder):
    hub_task = task(hub=str(hub_folder), hub_config="sst2")
    kept = task_file(hub_task, tmp_path / "data", hub_task.train_file)
    assert kept.parent.parent == tmp_path / "data"
    rows = read_rows(hub_task, kept)
    assert (rows.texts[0][0], rows.labels) == ("train \u2028\n0", (1, 0, 1))
    assert read_rows(hub_task, task_file(hub_task, tmp_path / "data", hub_task.dev_file)).labels == (0,)
    (hub_folder / "README.md").unlink()
    assert task_file(hub_task, tmp_path / "data", hub_task.train_file) == kept


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dev_file": "dev.jsonl"}, "split dev cannot be loaded: .*Unknown split"),
        ({"hub_config": "cola"}, "hub cola: split validation cannot be loaded: .*cola"),
        ({"hub": "/nowhere"}, "data set /nowhere sst2: split validation cannot be loaded"),
        ({"text_columns": ["sentence"]}, "split validation: expected a column 'sentence', found text, label"),
        ({"dev_file": "test.jsonl"}, "split test: row 0: label: expected a class, found -1"),
    ],
)
def test_a_bad_data_set_of_the_hub_leaves_no_file(tmp_path, hub_folder, changes, message):
    hub_task = task(**{"hub": str(hub_folder), "hub_config": "sst2", **changes})
    with pytest.raises(TaskError, match=message):
        task_file(hub_task, tmp_path / "data", hub_task.dev_file)
    assert not (tmp_path / "data").exists()


def test_labels_of_the_hub_are_held_against_the_task(tmp_path, hub_folder):
    hub_task = task(hub=str(hub_folder), hub_config="sst2", labels=["bad", "good"])
    with pytest.raises(TaskError, match=r"validation.jsonl: line 1: label: expected bad or good, found 'negative'"):
        read_rows(hub_task, task_file(hub_task, tmp_path / "data", hub_task.dev_file))


def test_numbers_of_the_hub_are_kept_to_the_last_bit(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.Value("float32")})
    numbers = [3.8, 0.1, 5.0]
    rows = datasets.Dataset.from_dict({"text": ["x"] * 3, "label": numbers}, features=features)
    rows.to_parquet(tmp_path / "hub" / "validation.parquet")
    hub_task = task(hub=str(tmp_path / "hub"), **REGRESSION)
    found = read_rows(hub_task, task_file(hub_task, tmp_path / "data", hub_task.dev_file))
    assert [np.float32(label) for label in found.labels] == [np.float32(number) for number in numbers]
