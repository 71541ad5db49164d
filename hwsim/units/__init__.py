"""The accelerator's units: each file holds a unit's value kernel and its actions per call."""
