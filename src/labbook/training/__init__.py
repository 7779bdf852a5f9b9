"""The engine: one loop over tensors in memory, with checkpoints, history, constraints and progress around it."""
