"""Settings of early stopping."""

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["EarlyStopping"]


class EarlyStopping(BaseModel):
    """When to stop before the last epoch: exactly one of two rules, which count validations."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    window: int | None = Field(None, gt=1, description="stop when the first of the last N validation losses is their minimum")
    patience: int | None = Field(None, gt=0, description="stop after N validations in a row without a new minimum")

    @model_validator(mode="after")
    def _exactly_one_rule(self) -> "EarlyStopping":
        if (self.window is None) == (self.patience is None):
            raise ValueError("set exactly one of window and patience, such as {patience: 5}")
        return self
