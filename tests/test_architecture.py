"""The table of a model's layers: in the order that an image passes them, with parameters that add up."""

import pytest
import torch
from toolbox import toy_model
from torch import nn

from labbook.evaluation.layers import list_layers


def test_layers_stand_in_the_order_of_their_use_with_shapes_and_parameters(tiny_packed):
    rows = list_layers(toy_model(tiny_packed, "cnn").eval(), torch.zeros(1, 1, 6, 6))
    assert [row["kind"] for row in rows] == ["Conv2d", "ReLU", "MaxPool2d", "Conv2d", "ReLU", "Flatten", "Linear"]
    assert [row["shape"] for row in rows][:3] == [[4, 6, 6], [4, 6, 6], [4, 3, 3]]
    assert [row["parameters"] for row in rows] == [40, 0, 0, 148, 0, 0, 111]


class Twice(nn.Module):
    """Uses one layer twice, and has a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, values):
        return self.scale * self.first(self.first(values))


def test_parameters_count_once_and_those_between_layers_close_the_list():
    model = Twice()
    rows = list_layers(model, torch.zeros(1, 3))
    assert [(row["name"], row["parameters"]) for row in rows] == [("first", 12), ("first", 0), ("", 3)]


def test_the_model_keeps_no_hook_also_after_an_error():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(4, 3))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        list_layers(model, torch.zeros(1, 3))
    assert not any(module._forward_hooks for module in model.modules())
