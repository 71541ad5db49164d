"""Errors of the training half: each names what was expected and what was found."""

from __future__ import annotations


class ConfigurationError(ValueError):
    """A setting that cannot be used; names the field."""


class UnsupportedModelError(ValueError):
    """A model that cannot be turned into a ternary student; lists what can."""


class TaskError(ValueError):
    """A task or its data that does not hold what it should; names file, column or label."""


class TrainingError(ValueError):
    """A training run that cannot go on or cannot be resumed."""


class PublishError(ValueError):
    """A model that lies complete on disk and could not be pushed to the hub; says how to do it later."""
