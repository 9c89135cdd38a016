"""What runs: storage, tensors, eager dispatch, the tape, devices, loaded kernels, the executor."""
