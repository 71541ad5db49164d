"""Teacher-intervention quantisation-aware training of ternary Transformers.

Every stage imports this package for `ti_qat.artifact`, so this file holds nothing but the version and a
hook that imports nothing, after which `from_pretrained` of transformers loads students.
"""

from ti_qat.registration import register_with_transformers

__version__ = "0.1.0"

register_with_transformers()
