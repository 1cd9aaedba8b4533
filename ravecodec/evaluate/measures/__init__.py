"""Measures of how close decoded audio is to its reference; used by the trainer, too."""
