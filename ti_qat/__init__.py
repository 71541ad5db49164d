"""Teacher-intervention quantisation-aware training of ternary Transformers.

Every stage imports this package for `ti_qat.artifact`, so this file holds nothing but the version.
"""

__version__ = "0.1.0"
