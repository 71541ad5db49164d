"""The weights file of a bundle: tensors one after the other, as ONNX external data."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import StringStringEntryProto, TensorProto, helper, numpy_helper

# ONNX Runtime maps the file into memory and computes on it in place; a cache line of alignment
# serves every vector load.
ALIGNMENT_BYTES = 64
# Smaller tensors (scales, epsilon) stay inside the model, where the optimiser can fold them.
INLINE_BYTES = 64


class ExternalData:
    """Collects tensors and gives them as initializers that point into one file."""

    def __init__(self, location: str) -> None:
        self.initializers: list[TensorProto] = []
        self._location = location
        self._content = bytearray()

    def add(self, name: str, value: np.ndarray[Any, Any]) -> None:
        """Append a tensor, little-endian and in C order."""
        if value.nbytes <= INLINE_BYTES:
            self.initializers.append(numpy_helper.from_array(value, name))
            return
        self._content += bytes(-len(self._content) % ALIGNMENT_BYTES)
        offset = len(self._content)
        self._content += np.ascontiguousarray(value, value.dtype.newbyteorder("<")).tobytes()
        tensor = TensorProto(name=name, dims=value.shape, data_location=TensorProto.EXTERNAL)
        tensor.data_type = helper.np_dtype_to_tensor_dtype(value.dtype)
        entries = {"location": self._location, "offset": str(offset), "length": str(value.nbytes)}
        tensor.external_data.extend(StringStringEntryProto(key=key, value=text) for key, text in entries.items())
        self.initializers.append(tensor)

    def content(self) -> bytes:
        """Return the file's bytes."""
        return bytes(self._content)
