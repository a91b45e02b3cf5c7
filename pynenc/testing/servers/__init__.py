"""Servers for tests and measurements: in temporary folders, on free ports."""
