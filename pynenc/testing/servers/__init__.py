"""Real servers for tests, chaos and benchmarks: each in a folder of its own, on a free port, ended by its process id."""
