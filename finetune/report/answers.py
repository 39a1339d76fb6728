"""What the three kinds of answers offer to whoever writes the report."""

from typing import Any, ClassVar, Protocol

from torch import Tensor

from finetune.report.fields import AnyReport
from finetune.report.predictions import Column


class Answers(Protocol):
    """What a network said of the validation images, in the order of `files`."""

    shape: ClassVar[type[AnyReport]]

    @property
    def files(self) -> list[str]:
        """The images, as they are called from the dataset's folder."""

    @property
    def finite(self) -> Tensor:
        """Whether the network gave finite numbers for an image, bool (N,)."""

    def columns(self) -> dict[str, Column]:
        """What is stored of each image."""

    def about(self) -> dict[str, Any]:
        """What is stored beside the columns."""

    def report(self) -> dict[str, Any]:
        """The fields of `shape` that say what the answers are worth."""
