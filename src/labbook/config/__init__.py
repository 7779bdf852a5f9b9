"""Settings: the typed schema of `params.yaml`, its defaults, loading, validation and error messages."""
