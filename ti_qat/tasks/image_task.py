"""What a task on images is: folders of images, one a class, and how a task file says so."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ti_qat.artifact.schema import Metric
from ti_qat.tasks.text_task import require_distinct


class ImageTask(BaseModel):
    """Images in `DATA/train/CLASS` and `DATA/dev/CLASS`; `labels[i]` names class i and its folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    modality: Literal["images"]
    name: Annotated[str, Field(min_length=1)]
    labels: Annotated[tuple[str, ...], Field(min_length=2)]
    metric: Metric
    train_folder: str = "train"
    dev_folder: str = "dev"

    @model_validator(mode="after")
    def _consistent_labels(self) -> Self:
        self.metric.require_fitting(self.labels)
        require_distinct(self, "labels")
        return self
