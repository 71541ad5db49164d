"""Two-bit ONNX bundles of ternary encoders, and the runtime that carries them on a device.

Kept empty: `deploy.runtime` executes this file where only numpy, onnxruntime and tokenizers exist.
"""
