"""`ti-qat predict`: texts, pairs, lines and files in; lines, JSON and files out."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from deploy.export import pack
from deploy.runtime import Classifier
from tests.builders import tiny_artifact
from ti_qat.cli import main

ROOT = Path(__file__).parents[2]
REVIEWS = ["a good film", "dull", "the very bad plot", "not a fine film", "a"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundles that know their texts (one, two), one that does not, and a regression."""
    folder = tmp_path_factory.mktemp("bundles")
    for name, columns, labels in (
        ("one", ("review",), 3),
        ("two", ("question", "reply"), 2),
        ("unknown", None, 2),
        ("number", ("review",), 1),
    ):
        pack(tiny_artifact(folder / "artifacts" / name, text_columns=columns, labels=labels), folder / name)
    return folder


def _predict(bundle: Path, *arguments: object, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(main, ["predict", str(bundle), *map(str, arguments)], input=stdin)


def _csv(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_predict_takes_what_the_model_was_trained_on(folder: Path) -> None:
    single, pairs = (str(folder / name) for name in ("one", "two"))
    as_told = CliRunner().invoke(main, ["predict", pairs, "a good\tfilm"])
    assert as_told.exit_code == 0, as_told.stderr
    assert as_told.stdout == CliRunner().invoke(main, ["predict", pairs, "--pairs", "a good\tfilm"]).stdout
    found = Classifier.load(pairs)([("a good", "film")])[0]
    assert as_told.stdout == f"{found.label}\t{found.score:.4f}\ta good\tfilm\n"
    # A tab in a single text is white space of it.
    assert CliRunner().invoke(main, ["predict", single, "a good\tfilm"]).exit_code == 0


def test_predict_says_what_the_model_takes(folder: Path) -> None:
    one_text = CliRunner().invoke(main, ["predict", str(folder / "two"), "a\tfilm", "a good film"])
    assert (one_text.exit_code, one_text.stdout) == (2, "")
    assert one_text.stderr == (
        "ti-qat: text 2: expected two texts (question, reply) with a tab between them, found no tab\n"
    )
    two_texts = CliRunner().invoke(main, ["predict", str(folder / "one"), "--pairs", "a\tfilm"])
    assert (two_texts.exit_code, two_texts.stdout) == (2, "")
    assert two_texts.stderr.endswith("expected one text a line (review) and no --pairs, found --pairs\n")


def test_predict_reads_arguments_and_standard_input(folder: Path) -> None:
    given = _predict(folder / "one", "a good film", "dull", "--json")
    piped = _predict(folder / "one", "--json", stdin="a good film\ndull\n")
    assert given.exit_code == piped.exit_code == 0
    assert given.stdout == piped.stdout
    rows = json.loads(given.stdout)["predictions"]
    assert [row["text"] for row in rows] == ["a good film", "dull"]
    assert set(rows[0]) == {"text", "label", "score", "scores"}


def test_predict_names_the_line_that_is_not_utf_8(folder: Path) -> None:
    done = _predict(folder / "one", stdin=b"a good film\ncaf\xe9\n")
    assert (done.exit_code, done.stderr) == (2, "ti-qat: standard input: line 2: expected UTF-8, found 0xe9\n")


def test_predict_takes_pairs_with_a_tab(folder: Path) -> None:
    done = _predict(folder / "unknown", "--pairs", stdin="a good\tfilm\n")
    assert done.exit_code == 0
    assert done.stdout.endswith("a good\tfilm\n")
    assert _predict(folder / "unknown", "--pairs", stdin="a good film\n").exit_code == 2


def _write_reviews(file: Path) -> Path:
    rows = [{"id": str(number), "review": text} for number, text in enumerate(REVIEWS)]
    if file.suffix == ".jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        separator = "\t" if file.suffix == ".tsv" else ","
        file.write_text("".join(separator.join(row) + "\n" for row in (("id", "review"), *(r.values() for r in rows))))
    return file


@pytest.mark.parametrize("written", [".csv", ".tsv", ".jsonl"])
@pytest.mark.parametrize("read", [".csv", ".tsv", ".jsonl"])
def test_a_file_keeps_its_rows_and_columns_and_gains_predictions(
    folder: Path, tmp_path: Path, read: str, written: str
) -> None:
    source, output = _write_reviews(tmp_path / f"reviews{read}"), tmp_path / f"out{written}"
    done = _predict(folder / "one", "--input", source, "--output", output)
    assert (done.exit_code, done.stdout) == (0, f"{output}: 5 rows\n"), done.stderr
    if written == ".jsonl":
        rows = [json.loads(line) for line in output.read_text().splitlines()]
    else:
        names, *lines = (line.split("\t" if written == ".tsv" else ",") for line in output.read_text().splitlines())
        rows = [dict(zip(names, line, strict=True)) for line in lines]
    assert [(row["id"], row["review"]) for row in rows] == [(str(i), text) for i, text in enumerate(REVIEWS)]
    expected = Classifier.load(folder / "one")(REVIEWS)
    assert [(row["predicted_label"], float(row["predicted_score"])) for row in rows] == [
        (found.label, found.score) for found in expected
    ]
    if written == ".jsonl":
        assert [row["predicted_scores"] for row in rows] == [found.scores for found in expected]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([source.name, output.name])


def test_labels_after_the_first_are_told_where_asked_for(folder: Path, tmp_path: Path) -> None:
    source = _write_reviews(tmp_path / "reviews.csv")
    assert _predict(folder / "one", "--input", source, "--output", tmp_path / "o.csv", "--top-k", 2).exit_code == 0
    first = Classifier.load(folder / "one")(REVIEWS, top_k=2)[0]
    (_, best), (second, probability) = first.scores.items()
    row = _csv(tmp_path / "o.csv")[0]
    assert (row["predicted_label_2"], float(row["predicted_score_2"])) == (second, probability)
    assert "predicted_label_3" not in row
    told = _predict(folder / "one", REVIEWS[0], "--top-k", 2).stdout
    assert told == f"{first.label}\t{best:.4f}\t{second}\t{probability:.4f}\t{REVIEWS[0]}\n"
    as_json = json.loads(_predict(folder / "one", REVIEWS[0], "--top-k", 2, "--json").stdout)
    assert list(as_json["predictions"][0]["scores"].items()) == list(first.scores.items())


def test_a_regression_writes_its_number(folder: Path, tmp_path: Path) -> None:
    source, output = _write_reviews(tmp_path / "reviews.csv"), tmp_path / "o.csv"
    assert _predict(folder / "number", "--input", source, "--output", output).exit_code == 0
    expected = Classifier.load(folder / "number")(REVIEWS)
    assert [float(row["predicted_score"]) for row in _csv(output)] == [found.score for found in expected]
    assert "predicted_label" not in _csv(output)[0]


def test_rows_of_two_texts_may_have_columns_of_any_name(folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "pairs.csv"
    source.write_text('\ufeffleft,right\n"a good, fine film","the\nplot"\n', encoding="utf-8")
    expected = Classifier.load(folder / "two")([("a good, fine film", "the\nplot")])[0]
    done = _predict(folder / "two", "--input", source, "--columns", "left,right")
    assert done.stdout == f"{expected.label}\t{expected.score:.4f}\ta good, fine film\tthe plot\n"
    assert _predict(folder / "unknown", "--input", source, "--columns", "left,right").exit_code == 0
    missing = _predict(folder / "two", "--input", source)
    assert (missing.exit_code, missing.stdout) == (2, "")
    assert missing.stderr == f"ti-qat: {source}: line 1: expected a column 'question', found left, right\n"
    one = _predict(folder / "two", "--input", source, "--columns", "left")
    assert one.stderr == "ti-qat: --columns: expected 2 (question, reply in training), found 1\n"
    unnamed = _predict(folder / "unknown", "--input", source)
    assert unnamed.stderr.endswith("unknown: expected --columns, as the bundle names no text columns\n")


def test_quotation_marks_of_tab_separated_text_are_characters(folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "reviews.tsv"
    source.write_text('review\r\n"a good\r\n\r\nfilm" dull\r\n')
    rows = json.loads(_predict(folder / "one", "--input", source, "--json").stdout)["predictions"]
    assert [row["text"] for row in rows] == ['"a good', 'film" dull']


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("r.csv", b"", "line 1: expected the names of the columns, found an empty file"),
        ("r.csv", b"review\n", "line 2: expected a row with texts, found none"),
        ("r.csv", b"review,id\na,1\nb\n", "line 3: expected 2 fields, found 1"),
        ("r.csv", b'review\n"a\nb\n', "line 2: expected CSV, found: unexpected end of data"),
        ("r.csv", b"review,review\na,b\n", "line 1: expected each column once, found 'review' twice"),
        ("r.csv", b"id,text\n1,a\n", "line 1: expected a column 'review', found id, text"),
        ("r.csv", b"review\ngood\ncaf\xe9\n", "line 3: expected UTF-8, found 0xe9"),
        ("r.csv", b"review,predicted_score\na,1\n", "line 2: expected no column 'predicted_score', which the"),
        ("r.tsv", b"review\na\tb\n", "line 2: expected 1 fields, found 2"),
        ("r.jsonl", b"", "line 1: expected a row with texts, found none"),
        ("r.jsonl", b'{"review": "a"}\n{"review": \n', "line 2: expected one JSON object, found: Expecting value"),
        ("r.jsonl", b'{"review": "a"}\n["a"]\n', 'line 2: expected one JSON object, found ["a"]'),
        ("r.jsonl", b"[" * 100_000, "line 1: expected one JSON object, found: "),
        ("r.jsonl", b'{"review": "a"}\n{"text": "a"}\n', "line 2: expected a column 'review', found text"),
        ("r.jsonl", b'{"review": 3}\n', "line 1: review: expected a text, found 3"),
        ("r.jsonl", b'{"review": "a\\ud800"}\n', r"line 1: expected text that UTF-8 can write, found '\ud800'"),
        ("r.jsonl", b'{"review": "a"}\n{"review": "a", "id": 1}\n', "line 2: expected the columns of the first row"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_line(
    folder: Path, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    """And what stood at the output before stays."""
    source, output = tmp_path / name, tmp_path / "o.csv"
    source.write_bytes(content)
    output.write_text("earlier")
    done = _predict(folder / "one", "--input", source, "--output", output)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(f"ti-qat: {source}: {message}")
    assert done.stderr.count("\n") == 1
    assert output.read_text() == "earlier"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o.csv", name]


def test_a_text_with_a_tab_cannot_be_written_as_tab_separated(folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "r.jsonl"
    source.write_text('{"review": "a\\tb"}\n')
    done = _predict(folder / "one", "--input", source, "--output", tmp_path / "o.tsv")
    assert done.stderr.startswith(f"ti-qat: {source}: line 1: expected no tab or line break, which .tsv cannot hold")
    assert not (tmp_path / "o.tsv").exists()


def test_places_that_cannot_be_are_refused_before_the_model_is_opened(folder: Path, tmp_path: Path) -> None:
    source = _write_reviews(tmp_path / "r.csv")
    nowhere = folder / "no bundle"
    for arguments, message in (
        (("--input", tmp_path / "r.txt"), "expected a file name that ends in .csv, .tsv, .jsonl, found r.txt"),
        (("--input", source, "--output", tmp_path / "o.xlsx"), "expected a file name that ends in"),
        (("--input", source, "--output", source), "expected another file than the input, found the input"),
        (("--input", source, "--output", tmp_path / "none" / "o.csv"), "expected a place for a file, found no folder"),
        (("--input", source, "a text"), "expected texts from --input alone, found TEXT too"),
        (("--columns", "a", "a text"), "expected --input with --columns, found no --input"),
        (("--input", source, "--columns", "a,b,c"), "expected one column name, or two with a comma between them"),
    ):
        done = _predict(nowhere, *arguments)
        assert (done.exit_code, done.stdout) == (2, "")
        assert message in done.stderr, done.stderr
    missing = _predict(folder / "one", "--input", tmp_path / "missing.csv")
    assert missing.stderr == f"ti-qat: {tmp_path / 'missing.csv'}: expected a file, found: No such file or directory\n"


def test_texts_of_the_command_line_can_be_written_to_a_file(folder: Path, tmp_path: Path) -> None:
    done = _predict(folder / "two", "a good\tfilm", "--output", tmp_path / "o.csv", "--json")
    assert json.loads(done.stdout) == {"output": str(tmp_path / "o.csv"), "rows": 1}
    row = _csv(tmp_path / "o.csv")[0]
    assert (row["question"], row["reply"]) == ("a good", "film")


def test_batches_of_any_size_give_the_same_file(folder: Path, tmp_path: Path) -> None:
    source = _write_reviews(tmp_path / "r.csv")
    for size in (1, 2, 64):
        _predict(folder / "one", "--input", source, "--output", tmp_path / f"{size}.csv", "--batch-size", size)
    first, *others = (tmp_path / f"{size}.csv" for size in (1, 2, 64))
    assert all(first.read_bytes() == other.read_bytes() for other in others)


def test_a_terminal_shows_the_time_left_and_a_pipe_does_not(folder: Path, tmp_path: Path) -> None:
    source = _write_reviews(tmp_path / "r.csv")
    arguments = [sys.executable, "-m", "ti_qat", "predict", str(folder / "one"), "--input", str(source)]
    arguments += ["--output", str(tmp_path / "o.csv"), "--batch-size", "1"]
    ours, theirs = os.openpty()
    subprocess.run(arguments, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    assert re.search(r"predict.*100%", os.read(ours, 100_000).decode())
    os.close(ours)
    piped = subprocess.run(arguments, cwd=ROOT, check=True, capture_output=True, text=True)
    assert piped.stderr == ""
