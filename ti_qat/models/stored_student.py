"""How a student's tensors are stored, so that nobody takes them for a float model's.

A student is stored in one of two forms, told apart by `packed` in config.json. Neither has a ternary
layer's `weight` in the shape that the layer has without ti_qat, so that transformers alone refuses the
checkpoint: of a quantisation that it does not know it only warns.

* latent: the float32 weights that training moves, as (1, N, K);
* packed: 2-bit codes, uint8 (N, ceil(K / 4)), beside `weight_quantizer.scale`, for inference and export.
"""

from __future__ import annotations

from pydantic import ValidationError
from torch import Tensor, nn
from transformers import PreTrainedModel

from ti_qat.config import QuantizerSettings
from ti_qat.errors import TrainingError
from ti_qat.hf_quantizer import TernaryConfig
from ti_qat.models.modeling import make_ternary
from ti_qat.quantization.packed_weights import PackedWeights, pack, ternary_layers
from ti_qat.quantization.quantizers import Quantizer
from ti_qat.quantization.weight_quantizers import LayerWeights


def stored_state(student: PreTrainedModel) -> dict[str, Tensor]:
    """Return the tensors of `student` in their stored form."""
    state = student.state_dict()
    if not student.config.quantization_config.packed:
        for name in ternary_layers(student):
            state[f"{name}.weight"] = state[f"{name}.weight"][None]
    return state


def expect_stored(model: PreTrainedModel, config: TernaryConfig) -> None:
    """Turn a float model without values into a student whose tensors have their stored shapes."""
    make_ternary(model, _settings(config))
    if config.packed:
        pack(model)
        return
    for layer in ternary_layers(model).values():
        layer.weight = nn.Parameter(layer.weight.detach()[None])


def take_out(model: PreTrainedModel, config: TernaryConfig) -> None:
    """Give the tensors that were read the shapes that the layers compute with."""
    _require_read(model)
    if not config.packed:
        for layer in ternary_layers(model).values():
            layer.weight = nn.Parameter(layer.weight.detach()[0])


def _settings(config: TernaryConfig) -> QuantizerSettings:
    try:
        return QuantizerSettings.model_validate(config.quantizers)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, ("quantization_config", "quantizers", *first["loc"])))
        raise TrainingError(f"config.json: {field}: {first['msg']}, found {first['input']!r}") from error


def _require_read(model: PreTrainedModel) -> None:
    """Raise `TrainingError` where a tensor of a ternary layer or of a quantiser was not in the checkpoint.

    Transformers starts such tensors afresh and warns; a scale would then be whatever lay in memory.
    """
    quantizers = {
        name: m for name, m in model.named_modules() if isinstance(m, Quantizer | LayerWeights | PackedWeights)
    }
    absent = [
        f"{name}.{key}"
        for name, module in (ternary_layers(model) | quantizers).items()
        for key, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
        if not getattr(tensor, "_is_hf_initialized", False)
    ]
    if absent:
        raise TrainingError(f"{model.name_or_path}: expected a student's tensors {', '.join(absent)}, found none")
