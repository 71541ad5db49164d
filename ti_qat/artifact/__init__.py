"""The artifact: the typed contract between training, simulation and deployment."""
