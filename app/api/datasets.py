"""The datasets below the data root."""

from contextlib import suppress
from pathlib import Path

from fastapi import APIRouter

from app.api import examples
from app.api.schemas import DatasetAnswer, Page, page
from app.api.state import Set
from app.errors import NotFound
from finetune.data.folders import dataset_names, list_folder, problems_of
from finetune.errors import DatasetNotFound

router = APIRouter(prefix="/v1/datasets", tags=["datasets"])


@router.get("", response_model=Page[DatasetAnswer], responses=examples.datasets)
def list_datasets(settings: Set) -> Page[DatasetAnswer]:
    """The folders right below the data root, each as a dataset."""
    found = []
    for name in dataset_names(settings.data_dir):
        with suppress(DatasetNotFound):  # a link out of the data root, or a folder that was just removed
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
    listing = list_folder(data_dir, name)
    counts = listing.counts()
    return DatasetAnswer(
        name=name,
        classes=list(listing.classes),
        counts=counts,
        images=sum(count for by_class in counts.values() for count in by_class.values()),
        problems=problems_of(listing),
    )
