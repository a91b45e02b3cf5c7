"""The testing kit: a virtual clock, and the conformance suite and model test for authors of stores."""
