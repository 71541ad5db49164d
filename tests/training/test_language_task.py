"""Language modelling, from corpus to perplexity."""

import json
import math

import pytest
import torch
from click.testing import CliRunner
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tests.builders import WORDS
from tests.training.models import tiny_tokenizer
from tests.training.tiny_families import tiny_model
from ti_qat.cli import main
from ti_qat.errors import TaskError
from ti_qat.models import model_directory
from ti_qat.tasks.language_objective import LanguageBatch, LanguageObjective, token_blocks
from ti_qat.tasks.language_task import LanguageTask
from ti_qat.tasks.objectives import Split
from ti_qat.tasks.task_file import find_task

LINES = [" ".join(WORDS[(3 * row + 5 * i) % len(WORDS)] for i in range(3 + row % 5)) for row in range(24)]


def tokenizer() -> PreTrainedTokenizerFast:
    """Words, closed by an end of text; no padding token, as GPT-2 has none."""
    found = tiny_tokenizer()
    found.backend_tokenizer.post_processor = None
    return PreTrainedTokenizerFast(tokenizer_object=found.backend_tokenizer, eos_token="[SEP]", unk_token="[UNK]")


def text_task(**fields):
    return LanguageTask(objective="language_modelling", name="tiny", **fields)


def test_texts_follow_each_other_in_blocks_closed_by_the_end_of_text():
    ours = tokenizer()
    texts = ("good film", "", "bad")
    ids = [
        *ours("good film")["input_ids"],
        ours.eos_token_id,
        ours.eos_token_id,
        *ours("bad")["input_ids"],
        ours.eos_token_id,
    ]
    assert token_blocks(texts, ours, 4)["input_ids"] == [ids[:4], ids[4:]]
    assert token_blocks(texts, ours, 5)["input_ids"] == [ids[:5]]  # one token is left: nothing to predict


def test_padding_is_no_label():
    ours = tokenizer()
    ours.pad_token = ours.eos_token
    batch = LanguageBatch(ours)([{"input_ids": [5, 3, 7]}, {"input_ids": [6, 3]}])
    assert batch["labels"].tolist() == [[5, 3, 7], [6, 3, -100]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]


def test_perplexity_is_that_of_a_naive_loop():
    logits = torch.randn(2, 4, 11, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[3, 1, 4, 1], [5, 9, -100, -100]])
    objective = LanguageObjective(text_task(text_column="text"))
    losses = [
        -math.log(math.exp(logits[row, place, token]) / sum(math.exp(value) for value in logits[row, place]))
        for row, place, token in ((0, 0, 1), (0, 1, 4), (0, 2, 1), (1, 0, 9))
    ]
    found = objective.score(objective.outcome(logits, labels).numpy(), None)
    # float32 logits and sums against double precision
    assert found == pytest.approx(math.exp(sum(losses) / len(losses)), rel=1e-5)


FILES = {
    "txt": lambda: "\n".join(LINES) + "\n",
    "tsv": lambda: "text\tother\n" + "".join(f"{line}\t1\n" for line in LINES),
    "csv": lambda: "text,other\n" + "".join(f'"{line}",1\n' for line in LINES),
    "jsonl": lambda: "".join(json.dumps({"text": line, "other": 1}) + "\n" for line in LINES),
}


@pytest.mark.parametrize("ending", list(FILES))
def test_a_corpus_is_read_from_every_format(tmp_path, ending):
    for name in ("train", "dev"):
        (tmp_path / f"{name}.{ending}").write_text(FILES[ending]())
    columns = {} if ending == "txt" else {"text_column": "text"}
    objective = LanguageObjective(text_task(format=ending, **columns))
    rows = objective.read(tmp_path, Split.DEV, tokenizer(), 8)
    assert rows["input_ids"] == token_blocks(tuple(LINES), tokenizer(), 8)["input_ids"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('objective = "translation"', "objective: Input should be 'language_modelling'"),
        ('objective = "language_modelling"', "text_column names the column of tsv, csv and jsonl files"),
        ('objective = "language_modelling"\nformat = "txt"\ntext_column = "text"', "txt files have none"),
        (
            'objective = "language_modelling"\ntext_column = "text"\nmetric = "f1"',
            "metric: Input should be 'perplexity'",
        ),
        ('objective = "language_modelling"\ntext_column = "text"\nheader = ["a"]', "header names no column 'text'"),
    ],
)
def test_a_bad_task_file_is_refused(tmp_path, content, message):
    (tmp_path / "task.toml").write_text(f'name = "tiny"\n{content}\n')
    with pytest.raises(TaskError, match=message):
        find_task(str(tmp_path / "task.toml"))


@pytest.fixture
def folder(tmp_path):
    for family in ("gpt2", "llama", "bert"):
        tiny_model(family).save_pretrained(tmp_path / family)
        tokenizer().save_pretrained(tmp_path / family)
    for name in ("train", "dev"):
        (tmp_path / f"{name}.txt").write_text(FILES["txt"]())
    (tmp_path / "task.toml").write_text('name = "tiny"\nobjective = "language_modelling"\nformat = "txt"\n')
    return tmp_path


def invoke(folder, verb, *arguments):
    options = ["--task", str(folder / "task.toml"), "--data", str(folder)]
    return CliRunner().invoke(main, [verb, *map(str, arguments), *options])


SETTINGS = ["--set", "epochs=10", "--set", "batch_size=4", "--set", "learning_rate=0.01"]


@pytest.mark.slow
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_language_model_is_taught_trained_and_scored(folder, family):
    teacher, student = folder / "teacher", folder / "student"
    teach = [
        "--model",
        folder / family,
        "--out",
        teacher,
        *SETTINGS,
        "--set",
        "max_length=8",
        "--set",
        "exportable=false",
        "--json",
    ]
    found = invoke(folder, "teach", *teach)
    assert found.exit_code == 0, found.output
    taught = json.loads(found.stdout)
    assert taught["metric"] == "perplexity"
    assert taught["score"] < len(WORDS)  # better than a guess among the words
    train = ["--teacher", teacher, "--out", student, *SETTINGS]
    found = invoke(folder, "train", *train)
    assert found.exit_code == 2
    assert f"model family '{family}' cannot be exported yet" in found.stderr
    assert not student.exists()
    found = invoke(folder, "train", *train, "--set", "exportable=false", "--set", "logit_scaling=token", "--json")
    assert found.exit_code == 0, found.output
    trained = json.loads(found.stdout)
    found = invoke(folder, "evaluate", student, "--json")
    assert found.exit_code == 0, found.output
    # Sums run in another order: the Trainer's batches are others than those of evaluate.
    assert json.loads(found.stdout)["score"] == pytest.approx(trained["score"], rel=1e-3)
    found = CliRunner().invoke(main, ["export", str(student), "--data", str(folder), "--out", str(folder / "artifact")])
    assert found.exit_code == 2
    assert f"model family '{family}' cannot be exported yet" in found.stderr
    model = model_directory.load(student)
    assert model.processor.pad_token == AutoTokenizer.from_pretrained(student).eos_token


def test_a_model_of_another_kind_of_task_is_refused(folder):
    trained = model_directory.TrainedTask(
        task=text_task(format="txt"), max_length=8, source="x", base_model="x", seed=0, training_rows=1
    )
    model = model_directory.TrainedModel(tiny_model("gpt2"), tokenizer(), trained, None)
    with pytest.raises(TaskError, match="task sst2: expected a task of the kind of 'tiny'"):
        model_directory.require_same_labels(find_task("sst2"), model)


def test_models_that_see_later_tokens_are_refused(folder):
    found = invoke(folder, "teach", "--model", folder / "bert", "--out", folder / "teacher")
    assert found.exit_code == 2
    assert "task tiny: expected a model of gpt2, llama, found 'bert'" in found.stderr
