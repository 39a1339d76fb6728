"""The datasets below the data root."""

from contextlib import suppress
from pathlib import Path

from fastapi import APIRouter

from app.api import examples
from app.api.schemas import DatasetAnswer, Page, page
from app.api.state import Set
from app.errors import NotFound
from finetune.data.dataset import dataset_names, list_dataset
from finetune.errors import DatasetNotFound

router = APIRouter(prefix="/v1/datasets", tags=["datasets"])


@router.get("", response_model=Page[DatasetAnswer], responses=examples.datasets)
def list_datasets(settings: Set) -> Page[DatasetAnswer]:
    """The folders right below the data root, and the manifests there and in those folders."""
    found = []
    for name in dataset_names(settings.data_dir):
        with suppress(DatasetNotFound):  # a link out of the data root, or one that was just removed
            found.append(_answer(settings.data_dir, name))
    return page(found, "name")


@router.get("/{name:path}", response_model=DatasetAnswer, responses=examples.dataset)
def get_dataset(name: str, settings: Set) -> DatasetAnswer:
    """A dataset's classes, its images by split and class, and what keeps it from being trained on."""
    try:
        return _answer(settings.data_dir, name)
    except DatasetNotFound as error:
        raise NotFound(error.message, param="name") from error


def _answer(data_dir: Path, name: str) -> DatasetAnswer:
    listing = list_dataset(data_dir, name)
    return DatasetAnswer(
        name=name,
        classes=list(listing.classes),
        multi_label=listing.multi_label,
        counts=listing.counts,
        images=sum(map(len, listing.images.values())),
        problems=list(listing.problems),
    )
