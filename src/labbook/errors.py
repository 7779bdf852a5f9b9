"""Errors that a user can fix. Stages and commands print their message instead of a traceback."""

__all__ = [
    "ConstraintError", "DataError", "DeviceError", "DownloadError", "ExerciseError", "GradientError", "LabbookError",
    "NumpyBackendError", "ParamsError", "TrainingError",
]  # fmt: skip


class LabbookError(Exception):
    """An error that the user can fix; the message says what is wrong, where, and how to fix it."""


class ParamsError(LabbookError):
    """A setting in `params.yaml` is missing or invalid."""


class ConstraintError(ParamsError):
    """A model violates the constraint of its experiment."""


class DataError(LabbookError):
    """A file is missing, damaged, or has unexpected content."""


class DownloadError(DataError):
    """No mirror served the file with the published checksum."""


class DeviceError(LabbookError):
    """The requested device is not available."""


class TrainingError(LabbookError):
    """Training cannot continue, for example because the loss is not finite."""


class NumpyBackendError(LabbookError):
    """The NumPy backend does not support a layer, shape, dtype, label or call order."""


class GradientError(LabbookError):
    """The outputs or gradients of a NumPy layer differ from the expected ones."""


class ExerciseError(LabbookError):
    """The input values of an exercise are invalid."""
