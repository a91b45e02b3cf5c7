"""Measurements beside the raw engine and other libraries: ``python benchmarks/run.py``."""
