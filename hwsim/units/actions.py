"""What a unit can do: the words in which units count, and for which energy tables name a price."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum

Actions = Counter["Action"]


class Action(StrEnum):
    """One countable action; docs of the units say what each covers. Memory actions count bits."""

    TERNARY_MAC_NONZERO = "ternary_mac_nonzero"
    TERNARY_MAC_ZERO = "ternary_mac_zero"
    INT8_MAC = "int8_mac"
    OPERAND_REGISTER_BIT = "operand_register_bit"
    FLOAT32_ADD = "float32_add"
    FLOAT32_MULTIPLY = "float32_multiply"
    WORD_OPERATION = "word_operation"
    INT32_MULTIPLY = "int32_multiply"
    TABLE_READ_BIT = "table_read_bit"
    WEIGHT_BUFFER_READ_BIT = "weight_buffer_read_bit"
    WEIGHT_BUFFER_WRITE_BIT = "weight_buffer_write_bit"
    ACTIVATION_BUFFER_READ_BIT = "activation_buffer_read_bit"
    ACTIVATION_BUFFER_WRITE_BIT = "activation_buffer_write_bit"
    DRAM_READ_BIT = "dram_read_bit"
    DRAM_WRITE_BIT = "dram_write_bit"
    WEIGHT_BUFFER_LEAKAGE_NS = "weight_buffer_leakage_ns"
    ACTIVATION_BUFFER_LEAKAGE_NS = "activation_buffer_leakage_ns"


# A float32 divide is a seed, two Newton-Raphson steps (two multiplications and a subtraction each)
# and the multiplication by the dividend; a square root takes three multiplications a step.
DIVIDE: Actions = Counter({Action.FLOAT32_MULTIPLY: 5, Action.FLOAT32_ADD: 2})
SQUARE_ROOT: Actions = Counter({Action.FLOAT32_MULTIPLY: 7, Action.FLOAT32_ADD: 2})
ADD: Actions = Counter({Action.FLOAT32_ADD: 1})
MULTIPLY: Actions = Counter({Action.FLOAT32_MULTIPLY: 1})
# Comparing, rounding, converting, copying a sign, looking a power of two up.
WORD: Actions = Counter({Action.WORD_OPERATION: 1})

# The fixed profile's: a multiplication of up to 32 bits, a quotient of 32 bits by restoring division (a
# subtraction a bit), and two neighbouring table entries of at most 24 bits.
INT_MULTIPLY: Actions = Counter({Action.INT32_MULTIPLY: 1})
INT_DIVIDE: Actions = Counter({Action.WORD_OPERATION: 32})
TABLE_PAIR: Actions = Counter({Action.TABLE_READ_BIT: 48})


def times(actions: Actions, count: int) -> Actions:
    """Return `actions`, done `count` times."""
    return Counter({action: number * count for action, number in actions.items()})


def total(*parts: Actions) -> Actions:
    """Return the sum of several counts."""
    summed: Actions = Counter()
    for part in parts:
        summed.update(part)
    return summed
