"""Capture: reads Python bytecode, executes it symbolically and records a graph with its guards."""
