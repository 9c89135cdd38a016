"""Schedules to source text (C++, Triton, NumPy), and source text to built, cached artifacts."""
