"""Public paths of the identities; they live in :mod:`pynenc.core.ids`."""
