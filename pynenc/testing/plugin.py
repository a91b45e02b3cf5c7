"""The pytest plug-in: fixtures for projects that use pynenc."""
