"""How folders of images are read, learned and scored."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from datasets import Dataset, load_dataset
from datasets.exceptions import DatasetsError
from torch import Tensor
from transformers import AutoImageProcessor, AutoModelForImageClassification, BaseImageProcessor

from ti_qat.artifact.evaluation import predictions, score
from ti_qat.errors import TaskError
from ti_qat.models.families import Family, Modality
from ti_qat.tasks.data import labels_of
from ti_qat.tasks.image_task import ImageTask
from ti_qat.tasks.objectives import Array, Collator, Split, class_settings


def read_images(task: ImageTask, folder: Path) -> Dataset:
    """Return the images of `folder` as rows of `image`, read when they are asked for, and `labels`, their class.

    Raises `TaskError` where the folders are not the classes of `task`.
    """
    # What `datasets` keeps of a folder of images are their paths: nothing that is worth a cache.
    with tempfile.TemporaryDirectory() as cache:
        try:
            found = load_dataset(
                "imagefolder",
                data_dir=str(folder),
                split="train",
                drop_labels=False,
                cache_dir=cache,
                keep_in_memory=True,
            )
        except (OSError, ValueError, DatasetsError) as error:
            reason = " ".join(str(error).split())
            raise TaskError(f"{folder}: expected folders of images, one a class: {reason}") from error
    classes = found.features["label"].names
    if unknown := sorted(set(classes) - set(task.labels)):
        raise TaskError(f"{folder}: expected folders {', '.join(task.labels)}, found {', '.join(unknown)}")
    return found.rename_column("label", "labels").align_labels_with_mapping(
        {name: index for index, name in enumerate(task.labels)}, "labels"
    )


def image_files(folder: Path) -> list[Path]:
    """Return every file below `folder`, in one order on every machine; raise `TaskError` where it is missing."""
    if not folder.is_dir():
        raise TaskError(f"{folder}: expected a folder that holds a folder of images for each class")
    return sorted(path for path in folder.rglob("*") if path.is_file())


class ImageBatch:
    """Makes a batch of images as the checkpoint's own processor says: size, range, mean and deviation."""

    def __init__(self, processor: BaseImageProcessor) -> None:
        self._processor = processor

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Return pixel_values (B, channels, height, width) and labels (B,)."""
        images = [row["image"].convert("RGB") for row in rows]
        pixels = self._processor(images=images, return_tensors="pt")["pixel_values"]
        return {"pixel_values": pixels, "labels": torch.tensor([row["labels"] for row in rows])}


@dataclass(frozen=True)
class ImageObjective:
    """Classification of images."""

    head: ClassVar[Any] = AutoModelForImageClassification
    task: ImageTask

    def head_settings(self) -> dict[str, Any]:
        """Return the settings of a fresh head."""
        return class_settings(self.task.labels)

    def serves(self, family: Family) -> bool:
        """Whether `family` reads images."""
        return family.modality is Modality.IMAGES

    def load_processor(self, source: str | Path) -> BaseImageProcessor:
        """Return the image processor on Pillow: with torchvision, pixels would depend on what is installed."""
        return AutoImageProcessor.from_pretrained(source, backend="pil")

    def fingerprints(self, data_dir: Path) -> dict[str, str]:
        """Return a digest of the names and sizes of the images: reading them all would take too long."""
        found = {}
        for split in Split:
            folder = self._folder(data_dir, split)
            listed = "".join(f"{file.relative_to(folder)}\0{file.stat().st_size}\n" for file in image_files(folder))
            found[split.value] = hashlib.sha256(listed.encode()).hexdigest()
        return found

    def read(self, data_dir: Path, split: Split, processor: BaseImageProcessor, max_length: int) -> Dataset:
        """Return the images, read when they are asked for, with labels."""
        return read_images(self.task, self._folder(data_dir, split))

    def _folder(self, data_dir: Path, split: Split) -> Path:
        return data_dir / (self.task.train_folder if split is Split.TRAIN else self.task.dev_folder)

    def lengths(self, rows: Dataset) -> list[int]:
        """Return ones: images are all as long."""
        return [1] * len(rows)

    def collator(self, processor: BaseImageProcessor, length: int | None = None) -> Collator:
        """Return what makes pixels of images."""
        return ImageBatch(processor)

    def outcome(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the logits."""
        return logits

    def score(self, outcomes: Array, rows: Dataset) -> float:
        """Return the metric of the most probable classes."""
        metric = self.task.metric
        return score(metric, labels_of(rows, metric), predictions(metric, outcomes))
