import pytest

from tests.training.models import TASK, tiny_tokenizer, write_data
from ti_qat.config import StudentConfig, TeacherConfig, configure
from ti_qat.errors import ConfigurationError, TaskError
from ti_qat.tasks.data import RightPadding, lengths_of, read_rows, task_file, tokenized
from ti_qat.tasks.glue import GLUE_TASKS
from ti_qat.tasks.task_file import find_task

TASK_TOML = """name = "t"
text_columns = ["text"]
label_column = "label"
labels = ["negative", "positive"]
metric = "accuracy"
"""


def write(path, text):
    path.write_text(text, encoding="utf-8", newline="")
    return path


def test_cola_has_no_header_and_keeps_quotes(tmp_path):
    (tmp_path / "CoLA").mkdir()
    write(tmp_path / "CoLA" / "dev.tsv", 'gj04\t1\t\tThe "book is.\ngj04\t0\t*\tBook the.\n')
    task = GLUE_TASKS["cola"]
    rows = read_rows(task, task_file(task, tmp_path, task.dev_file))
    assert rows.texts == (('The "book is.', "Book the."),)
    assert rows.labels == (1, 0)


def test_mrpc_has_a_byte_order_mark_two_texts_and_carriage_returns(tmp_path):
    header = "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n"
    file = write(tmp_path / "dev.tsv", header + '1\t7\t8\t"Amrozi said\thim "witness"\r\n')
    rows = read_rows(GLUE_TASKS["mrpc"], task_file(GLUE_TASKS["mrpc"], tmp_path, "dev.tsv"))
    assert file == task_file(GLUE_TASKS["mrpc"], tmp_path, "dev.tsv")
    assert rows.texts == (('"Amrozi said',), ('him "witness"',))


def test_the_words_null_and_na_are_words(tmp_path):
    rows = read_rows(TASK, write(tmp_path / "dev.tsv", "text\tlabel\nNA\tpositive\nnull\tnegative\n"))
    assert rows.texts == (("NA", "null"),)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("sentence\tlabel\nx\tpositive\n", "expected a column 'text', found sentence, label"),
        ("text\tlabel\nx\tpositive\ny\n", "line 3: expected 2 fields, found 1"),
        ("text\tlabel\nx\tmaybe\n", "line 2: label: expected negative or positive, found 'maybe'"),
        ("text\tlabel\n", "expected rows, found none"),
        ("", "expected a column 'text', found no columns"),
    ],
)
def test_bad_data_names_file_line_and_column(tmp_path, content, message):
    file = write(tmp_path / "dev.tsv", content)
    with pytest.raises(TaskError, match=message) as error:
        read_rows(TASK, file)
    assert str(file) in str(error.value)


def test_a_missing_file_says_where_it_was_looked_for(tmp_path):
    with pytest.raises(TaskError, match=r"no file dev.tsv; looked for .*SST-2/dev.tsv and .*dev.tsv"):
        task_file(GLUE_TASKS["sst2"], tmp_path, "dev.tsv")


def test_an_unknown_task_lists_the_known_ones():
    with pytest.raises(TaskError, match=r"'boolq' is not known: expected cola, sst2, .*wnli or a .toml file"):
        find_task("boolq")


def test_a_task_file_describes_any_task(tmp_path):
    assert find_task(str(write(tmp_path / "t.toml", TASK_TOML))).labels == ("negative", "positive")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("metric", "metrics"), "metrics: Extra inputs|metric: Field required"),
        (('"accuracy"', '"bleu"'), "metric: Input should be"),
        (
            ('["negative", "positive"]', '["negative"]'),
            "metric accuracy expects the names of two or more classes, labels has 1",
        ),
        (("name =", "name"), "expected TOML"),
    ],
)
def test_a_bad_task_file_names_the_field(tmp_path, change, message):
    file = write(tmp_path / "t.toml", TASK_TOML.replace(*change))
    with pytest.raises(TaskError, match=message):
        find_task(str(file))


def test_texts_are_cut_and_padded_on_the_right(tmp_path):
    write_data(tmp_path)
    tokenizer = tiny_tokenizer()
    tokenizer.padding_side = "left"
    rows = tokenized(read_rows(TASK, tmp_path / "train.tsv"), tokenizer, max_length=5)
    assert max(lengths_of(rows)) == 5
    batch = RightPadding(tokenizer)([rows[0], rows[1], rows[4]])
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]
    assert batch["input_ids"][0].tolist()[3:] == [0, 0]
    assert set(batch) == {"input_ids", "token_type_ids", "attention_mask", "labels"}


def test_settings_are_overridden_by_key():
    overrides = ["learning_rate=1e-3", "activations=dynamic_per_token", "deterministic=false"]
    config = configure(StudentConfig, overrides, "cola")
    assert (config.learning_rate, config.activations.value, config.deterministic) == (1e-3, "dynamic_per_token", False)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("learning_rat=1", r"^learning_rat: unknown setting, did you mean learning_rate\? known: preset, epochs"),
        ("xyzzy=1", "^xyzzy: unknown setting; known: preset, epochs"),
        ("learning_rate", "expected key=value"),
        ("learning_rate=-1", "learning_rate: Input should be greater than 0, found -1"),
        ("learning_rate=fast", "learning_rate: Input should be a valid number"),
        ("batch_size=2.5", "batch_size: Input should be a valid integer"),
        ("epochs=nan", "epochs: Input should be"),
    ],
)
def test_a_bad_setting_names_its_key(override, message):
    with pytest.raises(ConfigurationError, match=message):
        configure(TeacherConfig, [override], "cola")
