"""One file a kind of task: `evaluate` measures predictions on the test set, `write` puts metrics, plot data and pictures."""
