"""Settings: the typed schema of `params.yaml`, defaults, loading and the messages about what is wrong."""
