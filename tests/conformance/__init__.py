"""flambeau measured by PyTorch's own databases of operators, modules and optimizers (see README.md)."""
