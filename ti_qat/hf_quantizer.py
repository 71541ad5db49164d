"""What transformers registers of ours: a student's entry in config.json, and the quantiser that loads it.

This module is executed in the middle of the import of transformers (`ti_qat.registration`): whatever needs
its models, or a package that it does not bring, lies in `ti_qat.models.stored_student`, imported with the first
student that is loaded.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from ti_qat.errors import ConfigurationError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

    from ti_qat.config import QuantizerSettings

QUANT_METHOD = "ti_qat"
ATTENTION_NAME = "ti_qat"


@register_quantization_config(QUANT_METHOD)
class TernaryConfig(QuantizationConfigMixin):
    """`quantization_config` of config.json: the student's `QuantizerSettings` as JSON, and how it is stored."""

    def __init__(self, quantizers: dict[str, Any], packed: bool = False, quant_method: str = QUANT_METHOD) -> None:
        self.quant_method = quant_method
        self.quantizers = quantizers
        self.packed = packed

    @classmethod
    def of(cls, settings: QuantizerSettings) -> TernaryConfig:
        """Return the entry of a student with these settings and latent weights."""
        return cls(settings.model_dump(mode="json"))


@register_quantizer(QUANT_METHOD)
class TernaryHfQuantizer(HfQuantizer):
    """Rebuilds the student's layers before its tensors are read, and takes those out of their stored form."""

    requires_calibration = True  # quantising a float model on the fly would skip the training

    def update_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """Return float32; another number format is refused: integers beyond its mantissa would not be exact."""
        if dtype != torch.float32:
            raise ConfigurationError(f"dtype: a ternary student computes exact integers in float32, found {dtype}")
        return dtype

    def update_attn_implementation(self, config: PreTrainedConfig) -> PreTrainedConfig:
        """Refuse an attention function other than the student's; config.json does not keep which it is."""
        if config._attn_implementation not in (None, ATTENTION_NAME):
            raise ConfigurationError(
                f"attn_implementation: a ternary student's attention is '{ATTENTION_NAME}',"
                f" found '{config._attn_implementation}'"
            )
        _stored_student()  # registers the function
        config._attn_implementation = ATTENTION_NAME
        return config

    def _process_model_before_weight_loading(self, model: PreTrainedModel, **_: Any) -> None:
        _stored_student().expect_stored(model, self.quantization_config)

    def _process_model_after_weight_loading(self, model: PreTrainedModel, **_: Any) -> None:
        _stored_student().take_out(model, self.quantization_config)

    def get_state_dict_and_metadata(self, model: PreTrainedModel) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Return the tensors of `model` in their stored form, for `save_pretrained`."""
        return _stored_student().stored_state(model), {}

    def is_serializable(self) -> bool:
        """Both forms can be saved again."""
        return True

    @property
    def is_trainable(self) -> bool:
        """A packed student has no weights that could move."""
        return not self.quantization_config.packed

    @property
    def is_qat_trainable(self) -> bool:
        """As `is_trainable`: what trains is the student itself, not an adapter on it."""
        return self.is_trainable


def _stored_student() -> Any:
    return import_module("ti_qat.models.stored_student")
