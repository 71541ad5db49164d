"""What a device carries: classification of text with a bundle on ONNX Runtime.

>>> from deploy.runtime import Classifier
>>> classifier = Classifier.load("bundle")
>>> classifier(["a fine film"])[0].label
'positive'
"""

from deploy.bundle_files import BundleError
from deploy.runtime.classifier import Classifier, InferenceError, Prediction, TextError
from deploy.runtime.session import RuntimeConfigurationError

__all__ = ["BundleError", "Classifier", "InferenceError", "Prediction", "RuntimeConfigurationError", "TextError"]
