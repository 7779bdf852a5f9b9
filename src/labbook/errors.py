"""The errors a user can mend. A stage prints their message instead of a traceback."""

__all__ = [
    "ConstraintError", "DataError", "DeviceError", "DownloadError", "ExerciseError", "GradientError", "LabbookError",
    "ParamsError", "ScratchError", "TrainingError",
]  # fmt: skip


class LabbookError(Exception):
    """Something the user can mend; the message names the key or file, what was found and what would do."""


class ParamsError(LabbookError):
    """`params.yaml` holds something that cannot be used."""


class ConstraintError(ParamsError):
    """A model breaks the constraint of its experiment."""


class DataError(LabbookError):
    """A file is missing, damaged or not what it should be."""


class DownloadError(DataError):
    """No source gave the file with the published checksum."""


class DeviceError(LabbookError):
    """The device asked for is not there."""


class TrainingError(LabbookError):
    """Training cannot go on, for instance because the loss is no longer finite."""


class ScratchError(LabbookError):
    """A layer from scratch was given what it cannot use: a wrong shape, dtype, label or order of calls."""


class GradientError(LabbookError):
    """A layer from scratch does not compute what its check expects."""


class ExerciseError(LabbookError):
    """Numbers with which an exercise cannot be worked."""
