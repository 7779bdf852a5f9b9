"""One file a schedule: `build(settings)` gives the factor on the learning rate in an epoch, counted from 1."""
