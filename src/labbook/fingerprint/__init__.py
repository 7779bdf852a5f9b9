"""Fingerprints of stages: a hash of the meaning of each module, the versions of imported packages, and the settings."""
