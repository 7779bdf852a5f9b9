"""Fingerprints of what a stage runs: a hash of the meaning of each module, and the versions of the packages they import."""
