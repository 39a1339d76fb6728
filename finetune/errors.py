"""What can go wrong in a run, by name.

FinetuneError
├── SpecInvalid           the spec asks for what cannot be; carries every problem found
├── DatasetNotFound       there is no such dataset below the data root
├── DatasetInvalid        the dataset cannot be trained on; says what to mend
├── WeightsNotFound       a weights file, name or checkpoint is absent
├── WeightsIncompatible   weights whose tensors are not the backbone's
├── OutOfMemory           a step did not fit; says the batch size
├── NonfiniteLoss         the loss became NaN or infinite; says stage, epoch and step
├── CompileFailed         torch.compile cannot do what the spec asks for; says what to install
├── FrozenChanged         a frozen parameter or buffer moved
├── DiskFull              a checkpoint could not be written
├── NotReproduced         the best checkpoint, loaded anew, does not give its stored score
├── ExportFailed          the network cannot be written in a format, or answers otherwise there
├── DatasetGone           the images that an export is to be compared on are not there any more
├── ImageInvalid          what was sent to be predicted is no image that can be read
├── NetworkFailed         a checkpoint's network cannot be built, raises, or gives what are no numbers
└── DeviceUnusable        there is no such device to predict on
"""

from collections.abc import Sequence
from typing import ClassVar

from finetune.spec.problems import Problem


class FinetuneError(Exception):
    """Base of all failures that a run names. `param` is the spec field to look at, where there is one."""

    code: ClassVar[str] = "internal"

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class SpecInvalid(FinetuneError):
    """A spec with problems; `problems` lists all of them, the first one is the message."""

    code = "invalid_spec"

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(problems[0].message, problems[0].param)
        self.problems = tuple(problems)


class DatasetNotFound(FinetuneError):
    """There is no such dataset below the data root."""

    code = "dataset_not_found"


class DatasetInvalid(FinetuneError):
    """The dataset is there and cannot be trained on."""

    code = "dataset_invalid"


class WeightsNotFound(FinetuneError):
    """A weights file, a weights name or a job's checkpoint is absent."""

    code = "weights_not_found"


class WeightsIncompatible(FinetuneError):
    """The weights' tensors are not the backbone's."""

    code = "weights_incompatible"


class OutOfMemory(FinetuneError):
    """A step did not fit into the device's memory."""

    code = "out_of_memory"


class NonfiniteLoss(FinetuneError):
    """The training loss became NaN or infinite."""

    code = "nonfinite_loss"


class CompileFailed(FinetuneError):
    """The spec asks for a compiled network, and torch cannot compile here, or not this one."""

    code = "compile_failed"


class FrozenChanged(FinetuneError):
    """A parameter or buffer that the stage froze is not what it was before the epoch."""

    code = "frozen_changed"


class DiskFull(FinetuneError):
    """There is no room for a checkpoint, which needs about `needed` bytes where that is known."""

    code = "disk_full"

    def __init__(self, message: str, needed: int | None = None) -> None:
        super().__init__(message)
        self.needed = needed


class NotReproduced(FinetuneError):
    """The best checkpoint was loaded anew and does not give the validation score that was stored with it."""

    code = "not_reproduced"


class ExportFailed(FinetuneError):
    """The network cannot be written in a format, or the written one answers otherwise than torch's."""

    code = "export_failed"


class DatasetGone(FinetuneError):
    """There is no validation image any more on which an export could be compared with the checkpoint."""

    code = "dataset_gone"


class ImageInvalid(FinetuneError):
    """What was sent to be predicted is no image that can be read; `problems` names all such images."""

    code = "image_invalid"

    def __init__(self, message: str, param: str | None = None, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message, param)
        self.problems = tuple(problems)


class NetworkFailed(FinetuneError):
    """A checkpoint's network cannot be built, raises where it should answer, or gives what are no numbers."""

    code = "network_failed"


class DeviceUnusable(FinetuneError):
    """There is no such device to predict on."""

    code = "device_unusable"
