"""Whether a bundle's model may be opened: read from its bytes before ONNX Runtime sees them.

ONNX Runtime up to 1.22 follows external data to any path, and takes some locations for addresses in
memory; no version bounds how far functions unfold or loops run. So a model is refused here unless its
tensors lie in itself or in the bundle's weights file, it uses the standard domain and ours alone, has
no graph inside a graph and no input left out, and its functions unfold to a bounded number of nodes.
Fields that pack never writes are refused too, so that nothing can hide in what this file does not read.

Standard library only: the onnx package is ten times what a device carries.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from deploy.protobuf_wire import MalformedError, fields, text

DOMAINS = ("", "ai.onnx", "ti_qat")
# Of ONNX Runtime's own operators.
CONTRIBUTED = (("com.microsoft", "MatMulNBits"), ("com.microsoft", "Gelu"))
MAX_NODES = 1_000_000
MAX_CALL_DEPTH = 16
EXTERNAL_KEYS = ("location", "offset", "length")


class ModelRefusedError(ValueError):
    """A model that is not opened; says where and why."""


class Message(Enum):
    """The messages of onnx.proto that a bundle's model is made of; the value is the name there."""

    MODEL = "ModelProto"
    GRAPH = "GraphProto"
    FUNCTION = "FunctionProto"
    NODE = "NodeProto"
    ATTRIBUTE = "AttributeProto"
    TENSOR = "TensorProto"
    ENTRY = "StringStringEntryProto"


M = Message
# The fields that are taken of a message, and the message in each; None where it holds no tensor, node or function.
FIELDS: Mapping[Message, Mapping[int, Message | None]] = {
    M.MODEL: {**dict.fromkeys((1, 2, 3, 4, 5, 6, 8, 14)), 7: M.GRAPH, 25: M.FUNCTION},
    M.GRAPH: {**dict.fromkeys((2, 10, 11, 12, 13)), 1: M.NODE, 5: M.TENSOR},
    M.FUNCTION: {**dict.fromkeys((1, 4, 5, 6, 8, 9, 10, 12)), 7: M.NODE, 11: M.ATTRIBUTE},
    M.NODE: {**dict.fromkeys((1, 2, 3, 4, 6, 7)), 5: M.ATTRIBUTE},
    M.ATTRIBUTE: {**dict.fromkeys((1, 2, 3, 4, 7, 8, 9, 13, 20, 21)), 5: M.TENSOR},
    M.TENSOR: {**dict.fromkeys((1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14)), 13: M.ENTRY},
    M.ENTRY: dict.fromkeys((1, 2)),
}
NODE_INPUT, NODE_TYPE, NODE_DOMAIN = 1, 4, 7
FUNCTION_NAME, FUNCTION_DOMAIN = 1, 10
ENTRY_KEY, ENTRY_VALUE = 1, 2

# An operator or function: its domain and its name.
Name = tuple[str, str]


@dataclass(frozen=True)
class Weights:
    """The one file that external data may lie in."""

    file_name: str
    size_bytes: int


def check_model(model: bytes, weights: Weights) -> None:
    """Raise ModelRefusedError unless the serialised ModelProto keeps the rules above."""
    try:
        called: list[Name] = []
        functions: dict[Name, list[Name]] = {}
        for _, child, value in _known(Message.MODEL, model):
            if child is Message.GRAPH:
                called += _nodes(Message.GRAPH, value, weights)
            elif child is Message.FUNCTION:
                name = _name(value, FUNCTION_DOMAIN, FUNCTION_NAME)
                if name in functions:
                    raise ModelRefusedError(f"functions: expected each once, found {':'.join(name)} twice")
                functions[name] = _nodes(Message.FUNCTION, value, weights)
        _require_bounded(called, functions)
    except MalformedError as error:
        raise ModelRefusedError(f"expected an ONNX model, found {error}") from error


def _known(message: Message, data: bytes) -> Iterator[tuple[int, Message | None, bytes]]:
    """Yield number, message and content of the fields of a message, refusing those that pack does not write."""
    taken = FIELDS[message]
    for number, value in fields(data):
        if number not in taken:
            raise ModelRefusedError(f"{message.value}: expected no field {number}, found one")
        child = taken[number]
        if isinstance(value, int):
            if child is not None:
                raise MalformedError(f"a number as {message.value} field {number}")
            continue
        yield number, child, value


def _nodes(message: Message, data: bytes, weights: Weights) -> list[Name]:
    """Check a graph or a function; return the operators that its nodes call."""
    called = []
    for _, child, value in _known(message, data):
        if child is Message.NODE:
            name = _name(value, NODE_DOMAIN, NODE_TYPE)
            if name[0] not in DOMAINS and name not in CONTRIBUTED:
                raise ModelRefusedError(f"nodes: expected the operators of a bundle, found {':'.join(name)!r}")
            called.append(name)
        if child is not None:
            _tensors(child, value, weights)
    return called


def _tensors(message: Message, data: bytes, weights: Weights) -> None:
    """Check the tensors inside a message."""
    entries = {}
    for number, child, value in _known(message, data):
        if message is Message.NODE and number == NODE_INPUT and not value:
            # A variadic operator with a missing input ends the process of ONNX Runtime 1.31.
            raise ModelRefusedError("nodes: expected inputs with names, found one without")
        if child is Message.ENTRY:
            key, content = _name(value, ENTRY_KEY, ENTRY_VALUE)
            if key not in EXTERNAL_KEYS or key in entries:
                raise ModelRefusedError(f"external data: expected {', '.join(EXTERNAL_KEYS)} once, found {key!r}")
            entries[key] = content
        elif child is not None:
            _tensors(child, value, weights)
    if not entries:
        return
    location, offset, length = (entries.get(key, "") for key in EXTERNAL_KEYS)
    if location != weights.file_name:
        raise ModelRefusedError(f"external data: expected the file {weights.file_name}, found {location!r}")
    for digits in (offset, length):
        if not (digits.isascii() and digits.isdecimal() and len(digits) < 20):
            raise ModelRefusedError(f"external data: expected a number of bytes, found {digits[:40]!r}")
    if int(offset) + int(length) > weights.size_bytes:
        expected = f"at most {weights.size_bytes} bytes"
        raise ModelRefusedError(f"external data: expected {expected}, found {length} from {offset} on")


def _name(data: bytes, first: int, second: int) -> Name:
    """Return two texts of a message; of a field that comes twice the last one holds, as in every reader."""
    found = {number: value for number, value in fields(data) if number in (first, second)}
    return text(found.get(first, b"")), text(found.get(second, b""))


def _require_bounded(called: list[Name], functions: Mapping[Name, list[Name]]) -> None:
    """Raise ModelRefusedError where functions call themselves, or unfold to more than MAX_NODES nodes."""
    sizes: dict[Name, int] = {}

    def size_of(name: Name, above: tuple[Name, ...]) -> int:
        if name not in functions:
            return 1
        if name in above or len(above) > MAX_CALL_DEPTH:
            raise ModelRefusedError(f"functions: expected none that calls itself, found {':'.join(name)}")
        if name not in sizes:
            sizes[name] = 1 + sum(size_of(inner, (*above, name)) for inner in functions[name])
        return sizes[name]

    nodes = sum(size_of(name, ()) for name in called) + sum(size_of(name, ()) for name in functions)
    if nodes > MAX_NODES:
        raise ModelRefusedError(f"functions: expected at most {MAX_NODES} nodes when unfolded, found {nodes}")
