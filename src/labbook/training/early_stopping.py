"""Early stopping by the validation loss."""

from collections.abc import Sequence

from labbook.config.early_stopping import EarlyStopping

__all__ = ["should_stop"]


def should_stop(settings: EarlyStopping | None, val_losses: Sequence[float]) -> bool:
    """Return whether to stop after these validation losses, oldest first; always `False` without settings."""
    if settings is None:
        return False
    if settings.window is not None:  # the rule of assignment D
        last = val_losses[-settings.window :]
        return len(last) == settings.window and last[0] == min(last)
    patience = settings.patience or 0
    before, last = val_losses[:-patience], val_losses[-patience:]
    return len(before) > 0 and min(last) >= min(before)
