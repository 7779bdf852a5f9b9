"""One module a dataset that is made from another: `compose(packed, validation_fraction, seed)` gives a `Packed`."""
