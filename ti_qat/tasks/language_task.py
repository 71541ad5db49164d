"""What language modelling is as a task: a corpus, and how a task file says so."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Literal, Self

from pydantic import model_validator

from ti_qat.tasks.text_task import Columns, DataFormat, RowFiles


class LanguageMetric(StrEnum):
    """How a language model is scored; never part of an artifact, which holds no such model."""

    PERPLEXITY = "perplexity"


class LanguageTask(RowFiles):
    """Texts whose every token is to be predicted from those before it.

    `text_column` is the column of the texts; .txt files have none, every line of theirs is a text.
    """

    formats: ClassVar[tuple[DataFormat, ...]] = tuple(DataFormat)

    objective: Literal["language_modelling"]
    text_column: str = ""
    metric: LanguageMetric = LanguageMetric.PERPLEXITY

    @property
    def labels(self) -> tuple[()]:
        """There are no classes."""
        return ()

    @property
    def columns(self) -> Columns:
        """The columns that are read."""
        return Columns((self.text_column,) if self.text_column else ())

    @model_validator(mode="after")
    def _column_where_there_are_any(self) -> Self:
        lines = {self.format_of(name) is DataFormat.TXT for name in (self.train_file, self.dev_file)}
        if lines != {not self.text_column}:
            raise ValueError("text_column names the column of tsv, csv and jsonl files; txt files have none")
        return self
