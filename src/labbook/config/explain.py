"""Settings of the explain stage: a block under `explain` in `params.yaml`."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from labbook.config.components import Strict

__all__ = ["Explain", "Method"]

Method = Literal["saliency", "integrated_gradients", "layer_gradcam", "guided_gradcam", "occlusion"]


def _number_if_digits(value: Any) -> Any:
    """Convert an index that the command line passes as text; leave a path unchanged."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _text_if_number(value: Any) -> Any:
    """Convert the name of a layer in a `Sequential`, which YAML reads as a number."""
    return str(value) if type(value) is int else value


def _not_null(value: Any) -> Any:
    """Reject null, which DVC would pass as the argument `None`."""
    if value is None:
        raise ValueError("remove the key to use its default")
    return value


class Explain(Strict):
    """The settings of one explanation; DVC passes them to the stage on its command line."""

    image: Annotated[Annotated[int, Field(ge=0)] | str, BeforeValidator(_number_if_digits)] = Field(
        0, description="image whose activations are shown: an index into the test set, or a file"
    )
    layer: Annotated[str | None, BeforeValidator(_text_if_number), BeforeValidator(_not_null)] = Field(
        None,
        description="layer whose activations are shown, a name in model.named_modules(); default: the first layer with weights",
    )
    channels: Annotated[list[Annotated[int, Field(ge=0)]] | None, BeforeValidator(_not_null)] = Field(
        None, min_length=1, max_length=16, description="channels of the layer to show; default: the first four"
    )
    attributions: Annotated[list[Method] | None, BeforeValidator(_not_null)] = Field(
        None, min_length=1, description="default: all methods applicable to the model"
    )
    correct: int = Field(1, ge=0, le=10, description="number of correctly classified test images to attribute")
    wrong: int = Field(1, ge=0, le=10, description="number of misclassified test images to attribute")
    steps: int = Field(16, gt=0, le=1000, description="integration steps of integrated gradients")
    region: Annotated[str | None, BeforeValidator(_not_null)] = Field(
        None, description="class whose pixels are attributed; only for segmentation"
    )

    @model_validator(mode="after")
    def _check_counts_and_lists(self) -> "Explain":
        if not self.correct + self.wrong:
            raise ValueError("correct and wrong are both 0; set one of them to 1 or more")
        for key in ("channels", "attributions"):
            items = getattr(self, key) or []
            if len(set(items)) < len(items):
                raise ValueError(f"{key} has a duplicate item")
        return self
