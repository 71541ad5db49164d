"""An accelerator and a matrix product of ours in ZigZag's words: the same array, buffers, ports, channel and prices."""

from __future__ import annotations

from typing import Any

from hwsim.config import Accelerator, Dataflow
from hwsim.energy.prices import Level, prices
from hwsim.schedule.memory import TERNARY_BITS
from hwsim.schedule.tiling import Product, staging_bytes
from hwsim.units.actions import Action

ACTIVATION_BITS = 8
OPERANDS = {"I": "I1", "W": "I2", "O": "O"}  # of a layer, and what memories call them
UNROLLED = {Dataflow.OUTPUT_STATIONARY: ("M", "N"), Dataflow.WEIGHT_STATIONARY: ("K", "N")}  # over rows and columns
Description = dict[str, Any]


def describe(product: Product, accelerator: Accelerator, array_pj_per_mac: float) -> Description:
    """Return the case that `zigzag_runner.py` takes. A ternary product whose operands all come from DRAM."""
    rows, columns = accelerator.array_rows, accelerator.array_columns
    over_rows, over_columns = UNROLLED[accelerator.dataflow]
    return {
        "accelerator": {
            "name": accelerator.name,
            "memories": _memories(accelerator),
            "operational_array": {
                "unit_energy": array_pj_per_mac,
                "unit_area": 1.0,
                "dimensions": ["D1", "D2"],
                "sizes": [rows, columns],
                "systolic_dimensions": ["D1", "D2"],
            },
        },
        "mapping": [
            {
                "name": "default",
                "spatial_mapping": {"D1": [f"{over_rows}, {rows}"], "D2": [f"{over_columns}, {columns}"]},
                "memory_operand_links": OPERANDS,
            }
        ],
        "workload": [_layer(product, accelerator)],
    }


def port_bits(accelerator: Accelerator) -> dict[str, int]:
    """Return the bits that each memory moves in a cycle, which is also the word that its accesses are counted in."""
    if accelerator.weight_buffer_banks is None or accelerator.activation_buffer_banks is None:
        raise ValueError(f"{accelerator.name}: ZigZag needs buffers of a stated number of banks")
    return {
        "weight_buffer": 8 * round(accelerator.weight_buffer_bytes_per_cycle),
        "activation_buffer": 8 * round(accelerator.activation_buffer_bytes_per_cycle),
        "dram": round(8 * accelerator.dram_bandwidth_bytes_per_s / accelerator.clock_hz),
    }


def _layer(product: Product, accelerator: Accelerator) -> Description:
    return {
        "id": 0,
        "name": "product",
        "operator_type": "Gemm",
        "equation": "O[m][n]+=I[m][k]*W[k][n]",
        "dimension_relations": [],
        "loop_dims": ["M", "K", "N"],
        "loop_sizes": [product.m, product.k, product.n],
        "operand_precision": {
            "I": ACTIVATION_BITS,
            "W": product.weight_bits,
            "O": accelerator.accumulator_bits,
            "O_final": 8 * product.output_item_bytes,
        },
        "operand_source": {"I": 0, "W": 0},  # neither is made by a layer
    }


def _memories(accelerator: Accelerator) -> dict[str, Description]:
    price = prices(accelerator)
    bits = port_bits(accelerator)
    bank_bits = 8 * accelerator.bank_bytes

    def memory(level: Level, size_bytes: int, operands: str, smallest: int, **more: Any) -> Description:
        width = bits[level.value]
        ends = {"I1": ("fh", "tl"), "I2": ("fh", "tl"), "O": ("fh", "tl", "fl", "th")}
        served = ((operand, end) for operand in operands.split() for end in ends[operand])
        return {
            "size": 8 * size_bytes,
            "r_cost": width * price[Action(f"{level.value}_read_bit")].pj,
            "w_cost": width * price[Action(f"{level.value}_write_bit")].pj,
            "area": 0.0,
            "latency": 1,
            "operands": operands.split(),
            "served_dimensions": ["D1", "D2"],
            "ports": [_port("rw_port_1", "read_write", smallest, width, *served)],
        } | more

    return {
        **_registers(accelerator),
        # Two tiles take turns in it, as in ours.
        "weight_buffer": memory(
            Level.WEIGHT_BUFFER, accelerator.weight_buffer_bytes, "I2", bank_bits, force_double_buffering=True
        ),
        # The part that a product's activations may take of it on their way from and to DRAM.
        "activation_buffer": memory(Level.ACTIVATION_BUFFER, staging_bytes(accelerator), "I1 O", bank_bits),
        "dram": memory(Level.DRAM, 1 << 40, "I1 I2 O", 8),
    }


def _registers(accelerator: Accelerator) -> dict[str, Description]:
    """Return what stays in an element of the array; its energy is part of the multiply-accumulate's."""
    sums = accelerator.dataflow is Dataflow.OUTPUT_STATIONARY
    bits = accelerator.accumulator_bits if sums else TERNARY_BITS
    operand = "O" if sums else "I2"
    ends = ("r_port_1", "tl"), ("w_port_1", "fh"), ("r_port_2", "th"), ("w_port_2", "fl")
    return {
        "register": {
            "size": bits,
            "r_cost": 0.0,
            "w_cost": 0.0,
            "area": 0.0,
            "latency": 1,
            "operands": [operand],
            "served_dimensions": [],
            "ports": [
                _port(name, "read" if name.startswith("r") else "write", bits, bits, (operand, end))
                for name, end in (ends if sums else ends[:2])
            ],
        }
    }


def _port(name: str, kind: str, smallest_bits: int, bits: int, *ends: tuple[str, str]) -> Description:
    return {
        "name": name,
        "type": kind,
        "bandwidth_min": smallest_bits,
        "bandwidth_max": bits,
        "allocation": [f"{operand}, {end}" for operand, end in ends],
    }
