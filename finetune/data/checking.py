"""The check of a dataset's files before a run."""

from dataclasses import dataclass
from pathlib import Path

from finetune.data.dataset import Dataset
from finetune.data.decoding import undecodable
from finetune.data.images import Images
from finetune.errors import DatasetInvalid


@dataclass(frozen=True)
class Checked:
    """How many images were decoded for the check, and how many had been before, as they are now."""

    decoded: int
    known: int


def check_files(dataset: Dataset, data_dir: Path, images: Images) -> Checked:
    """Decodes every image once, as one that cannot be decoded would end the run in the middle of an epoch.

    Raises:
        DatasetInvalid: some cannot be; the message names them. This is not kept: it may have been the disk
            or the memory, and not the file.
    """
    paths = [sample.path for sample in (*dataset.train, *dataset.val)]
    unknown = images.unknown(paths)
    bad = undecodable(unknown, images)
    if bad:
        root = data_dir.resolve()
        named = "; ".join(f"{path.relative_to(root)} ({reason})" for path, reason in bad[:10])
        more = f"; and {len(bad) - 10} more" if len(bad) > 10 else ""
        raise DatasetInvalid(
            f"{len(bad)} files cannot be decoded, mend or remove them: {named}{more}", "dataset.path"
        )
    images.know(paths)
    return Checked(len(unknown), len(paths) - len(unknown))
