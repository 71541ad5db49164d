"""transformers' Trainer, made to intervene and to survive a kill."""
