"""What every part of a spec shares: strictness, bounded numbers, clean text, tagged unions."""

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, StringConstraints

MAX_EPOCHS = 10_000
MAX_RATE = 1e6
ONE_OF = "one of: "  # what `problems` finds the choices by in the message of a union


class Part(BaseModel):
    """A part of a spec: unknown fields, other JSON types, NaN and infinities are refused."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


def _clean(text: str) -> str:
    if "\x00" in text:
        raise ValueError("must not contain the character NUL")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("must not contain half of a surrogate pair")
    return text


CleanText = Annotated[str, AfterValidator(_clean)]
ModuleName = Annotated[CleanText, StringConstraints(min_length=1, max_length=200)]
RelativePath = Annotated[CleanText, StringConstraints(min_length=1, max_length=500)]
Rate = Annotated[float, Field(ge=0, le=MAX_RATE, description="A learning rate.")]
Factor = Annotated[float, Field(ge=0, le=1e6)]
Epochs = Annotated[int, Field(ge=1, le=MAX_EPOCHS)]
Fraction = Annotated[float, Field(gt=0, lt=1)]


def tag_of(key: str) -> Callable[[Any], str | None]:
    """A function that finds a union member's tag: `<value of key>`, for objects and for dictionaries."""

    def tag(value: Any) -> str | None:
        chosen = value.get(key) if isinstance(value, dict) else getattr(value, key, None)
        return f"<{chosen}>" if isinstance(chosen, str) else None

    return tag


def chosen_by(key: str, *choices: str) -> Discriminator:
    """The discriminator of a union whose members differ by the string in `key`."""
    return Discriminator(
        tag_of(key),
        custom_error_type=f"unknown_{key}",
        custom_error_message=f"needs {key!r}, {ONE_OF}{', '.join(choices)}",
    )
