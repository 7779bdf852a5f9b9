"""One file an optimiser: `build(settings, parameters)` gives a fused `torch.optim.Optimizer`."""
