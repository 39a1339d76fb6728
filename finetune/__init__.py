"""Thaw's training library: `for event in finetune.train(spec, folder): …`.

Torch is loaded when `train` is first asked for, so that `finetune.spec` stays cheap to import.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finetune.training import train

__all__ = ["train"]


def __getattr__(name: str) -> Any:
    if name == "train":
        from finetune.training import train

        return train
    raise AttributeError(f"module 'finetune' has no attribute {name!r}")
