"""The constraints of an assignment on a model, checked on the built model before it is trained."""

from collections.abc import Iterator, Sequence

from torch import nn

from labbook.config.train import Constraint
from labbook.errors import ConstraintError

__all__ = ["check_constraint", "count_parameters"]


def check_constraint(model: nn.Module, constraint: Constraint, weight_decay: float, key: str) -> None:
    """Check that a model satisfies its constraint.

    Args:
        model: the model, before training.
        constraint: the experiment's constraint.
        weight_decay: the optimiser's weight decay.
        key: the constraint's key in `params.yaml`, for messages.

    Raises:
        ConstraintError: the model violates it; the message names the constraint and the actual value.
    """
    for name, required, actual in _violations(model, constraint, weight_decay):
        raise ConstraintError(
            f"{key}.{name}: requires {required}, but the model has {actual}. Change the model or the constraint."
        )


def _violations(model: nn.Module, constraint: Constraint, weight_decay: float) -> Iterator[tuple[str, object, object]]:
    """Yield the key of each violated constraint, what it requires, and what the model has."""
    parameters = count_parameters(model)
    if constraint.parameters is not None and parameters != constraint.parameters:
        yield "parameters", constraint.parameters, parameters
    if constraint.parameters_below is not None and parameters >= constraint.parameters_below:
        yield "parameters_below", f"fewer than {constraint.parameters_below}", parameters
    if constraint.weight_decay and not weight_decay > 0:
        yield "weight_decay", "weight_decay above 0 in the optimizer", weight_decay
    yield from _layer_violations(model, constraint)


def _layer_violations(model: nn.Module, constraint: Constraint) -> Iterator[tuple[str, object, object]]:
    hidden = [module.out_features for module in model.modules() if isinstance(module, nn.Linear)][:-1]
    if constraint.hidden_units_at_most is not None and sum(hidden) > constraint.hidden_units_at_most:
        yield "hidden_units_at_most", f"at most {constraint.hidden_units_at_most}", sum(hidden)
    if constraint.hidden_layers_at_least is not None and len(hidden) < constraint.hidden_layers_at_least:
        yield "hidden_layers_at_least", f"at least {constraint.hidden_layers_at_least}", len(hidden)
    kinds = [type(module).__name__ for module in model.modules() if not list(module.children())]
    allowed = kinds if constraint.layers_allowed is None else constraint.layers_allowed
    disallowed = sorted(set(kinds) - set(allowed))
    if disallowed:
        yield "layers_allowed", f"only {', '.join(allowed) or 'no layer'}", ", ".join(disallowed)
    convs = _after_each_conv(kinds)
    for kind in constraint.layers_at_every_conv or ():
        count = sum(kind in layers for layers in convs)
        if not convs or count < len(convs):
            yield "layers_at_every_conv", f"{kind} after each Conv2d", f"it after {count} of {len(convs)}"


def _after_each_conv(kinds: Sequence[str]) -> list[set[str]]:
    """Return the kinds of layers that follow each Conv2d, up to the next Conv2d or Linear.

    Args:
        kinds: class names of all layers, in the order in which the model defines them.
    """
    convs: list[set[str]] = []
    layers: set[str] = set()
    for kind in kinds:
        if kind in ("Conv2d", "Linear"):
            layers = set()
        if kind == "Conv2d":
            convs.append(layers)
        layers.add(kind)
    return convs


def count_parameters(model: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
