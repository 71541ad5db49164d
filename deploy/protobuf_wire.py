"""The wire format of Protocol Buffers, as far as a check of a model needs it. Standard library only."""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES = 10
_MAX_TAG = (1 << 32) - 1


class MalformedError(ValueError):
    """bytes that are no message."""


def fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Yield number and value of a message's fields in order: an integer, or the bytes of anything with a length.

    Raises MalformedError for bytes that end early and for wire types that no current message has.
    """
    position, end = 0, len(data)
    # Nearly all tags and sizes are one byte, and are read without a call.
    while position < end:
        tag = data[position]
        position += 1
        if tag >= 0x80:
            tag, position = _varint(data, position - 1)
        number, wire_type = tag >> 3, tag & 7
        if tag > _MAX_TAG or number == 0:
            raise MalformedError(f"the tag {tag}")
        if wire_type == _VARINT:
            value, position = _varint(data, position)
            yield number, value
            continue
        if wire_type == _BYTES:
            size = data[position] if position < end else 0x80
            position += 1
            if size >= 0x80:
                size, position = _varint(data, position - 1)
        elif wire_type in (_FIXED64, _FIXED32):
            size = 8 if wire_type == _FIXED64 else 4
        else:
            raise MalformedError(f"the wire type {wire_type}")
        if size > end - position:
            raise MalformedError(f"{end - position} bytes where {size} are announced")
        if wire_type == _BYTES:
            yield number, data[position : position + size]
        else:
            yield number, int.from_bytes(data[position : position + size], "little")
        position += size


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """Return the integer that starts at a position, and where the next field starts."""
    value = 0
    for index, byte in enumerate(data[position : position + _MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, position + index + 1
    raise MalformedError("an integer without an end")


def text(value: bytes | int) -> str:
    """Return a field's bytes as text; raise MalformedError for what is none."""
    if isinstance(value, int):
        raise MalformedError("a number where a text is expected")
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedError("a text that is not UTF-8") from error
