"""Real servers for tests: started in a temporary folder on a free port, killed and started again at will."""
