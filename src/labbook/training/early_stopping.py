"""Early stopping by the validation loss."""

from collections.abc import Sequence

from labbook.config.early_stopping import EarlyStopping

__all__ = ["should_stop"]


def should_stop(settings: EarlyStopping | None, val_losses: Sequence[float]) -> bool:
    """Return whether to stop after these validation losses, oldest first; always `False` without settings."""
    if settings is None:
        return False
    if settings.window is not None:  # the rule of assignment D
        recent = val_losses[-settings.window :]
        return len(recent) == settings.window and recent[0] == min(recent)
    patience = settings.patience or 0
    earlier, recent = val_losses[:-patience], val_losses[-patience:]
    return len(earlier) > 0 and min(recent) >= min(earlier)
