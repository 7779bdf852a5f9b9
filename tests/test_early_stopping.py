"""Early stopping: when each rule stops for a history of validation losses, and invalid settings."""

import pytest

from labbook.config.early_stopping import EarlyStopping
from labbook.config.reading import validate
from labbook.errors import ParamsError
from labbook.training.early_stopping import should_stop


def first_stop(losses, **keys):
    """Return the number of validations after which training first stops, or `None`."""
    settings = EarlyStopping(**keys) if keys else None
    return next((count for count in range(len(losses) + 1) if should_stop(settings, losses[:count])), None)


@pytest.mark.parametrize(
    ("window", "losses", "expected"),
    [
        (4, [4.0, 3.0, 2.0, 1.0, 0.9], None),  # every loss is a new minimum
        (4, [1.0, 2.0, 3.0, 4.0], 4),
        (4, [1.0, 2.0, 3.0], None),  # the window is not full
        (4, [1.0, 2.0, 3.0, 0.5, 0.6, 0.7], None),
        (4, [1.0, 2.0, 3.0, 0.5, 0.6, 0.7, 0.8], 7),
        (4, [1.0, 1.0, 1.0, 1.0], 4),  # an equal loss is not better
        (3, [0.1, 3.0, 0.2, 0.3, 0.4], 3),
        (3, [5.0, 0.1, 3.0, 0.05, 2.0, 1.0], 6),
        (2, [3.0, 1.0, 2.0], 3),
        (2, [], None),
    ],
)
def test_window_stops_when_the_first_of_the_last_losses_is_their_minimum(window, losses, expected):
    assert first_stop(losses, window=window) == expected


@pytest.mark.parametrize(
    ("patience", "losses", "expected"),
    [
        (2, [3.0, 2.0, 1.0], None),
        (2, [1.0, 2.0, 3.0], 3),
        (2, [1.0, 2.0, 0.9, 1.0, 0.95], 5),
        (2, [1.0, 1.0, 1.0], 3),  # an equal loss is no new minimum
        (2, [1.0, 2.0], None),
        (1, [1.0], None),
        (1, [1.0, 1.1], 2),
        (3, [1.0, 5.0, 4.0, 0.5, 0.6, 0.7], None),
        (3, [1.0, 5.0, 4.0, 0.5, 0.6, 0.7, 0.55], 7),
        (5, [], None),
    ],
)
def test_patience_stops_after_validations_without_a_new_minimum(patience, losses, expected):
    assert first_stop(losses, patience=patience) == expected


def test_the_rules_differ_on_a_minimum_before_the_window():
    losses = [0.1, 3.0, 2.0, 2.5]
    assert first_stop(losses, window=2) == 2
    assert first_stop(losses[1:], window=2) == 3
    assert first_stop(losses, patience=3) == 4
    assert first_stop(losses, window=4) == 4


def test_without_settings_training_never_stops():
    assert first_stop([1.0, 2.0, 3.0, 4.0, 5.0]) is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, r"^early_stopping: set exactly one of window and patience, such as \{patience: 5\}\.$"),
        ({"window": 4, "patience": 5}, r"^early_stopping: set exactly one of window and patience"),
        ({"window": 1}, r"^early_stopping\.window: .*greater than 1"),
        ({"patience": 0}, r"^early_stopping\.patience: .*greater than 0"),
        ({"patience": 2.5}, r"^early_stopping\.patience: "),
        ({"patience": True}, r"^early_stopping\.patience: "),
        ({"patiance": 3}, r"^early_stopping\.patiance: unknown key; did you mean 'patience'\?"),
    ],
)
def test_invalid_settings_are_rejected(values, message):
    with pytest.raises(ParamsError, match=message):
        validate(values, EarlyStopping, "early_stopping")
