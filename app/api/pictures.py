"""The images of a dataset: the list, and a small picture of each."""

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from app.api import picture_examples as examples
from app.api.conditional import matches
from app.api.schemas import Page, page
from app.api.state import Img, Own, Pic
from app.aside import AsideRefused
from app.errors import Invalid, NotFound
from app.listings import Image, Images, Listings
from app.own_datasets import OwnDatasets
from app.pictures import Wanted
from finetune.data.pictures import MEDIA_TYPE
from finetune.errors import DatasetNotFound
from finetune.spec.problems import Problem, closest

router = APIRouter(prefix="/v1/images", tags=["images"])

# What strangers sent is shown by browsers as a picture or not at all.
ALONE = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox; default-src 'none'"}
CACHED = "private, max-age=300"

DatasetName = Annotated[str, Query(min_length=1, description="The dataset's name, as it is listed.")]
Split = Literal["train", "val"]


class ImageAnswer(BaseModel):
    """An image of a dataset."""

    object: Literal["dataset.image"] = "dataset.image"
    id: str = Field(description="Made of `file`: the same for as long as that is its name.")
    file: str = Field(description="Relative to the dataset's folder, or to its manifest's.")
    split: Split = Field(description="`train` for all where the dataset has no split of its own.")
    labels: list[str]


@router.get("", response_model=Page[ImageAnswer], responses=examples.images)
def list_images(
    dataset: DatasetName,
    listings: Img,
    own: Own,
    split: Annotated[Split | None, Query(description="None are in `val` without a split.")] = None,
    label: Annotated[str | None, Query(alias="class", description="A class that they have.")] = None,
    after: Annotated[str | None, Query(description="The last id of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 24,
) -> Page[ImageAnswer]:
    """A dataset's images in its order. A class that the dataset does not have is refused with 422.

    Large datasets are listed now and then and remembered in between: a new file may take a while to show.
    """
    images = images_of(dataset, listings, own)
    if label is not None:
        check_class("class", label, images.listing.classes)
    first = 0 if after is None else _place(images, after) + 1
    found: list[Image] = []
    for image in images.ordered[first:]:
        if split in (None, image.split) and (label is None or label in image.listed.labels):
            found.append(image)
            if len(found) > limit:
                break
    shown = [
        ImageAnswer.model_validate(
            {"id": image.id, "file": image.file, "split": image.split, "labels": image.listed.labels}
        )
        for image in found[:limit]
    ]
    return page(shown, "id", len(found) > limit)


@router.get("/{image_id}", response_class=Response, responses=examples.picture)
async def get_picture(
    image_id: Annotated[str, Path(max_length=100)],
    request: Request,
    dataset: DatasetName,
    listings: Img,
    own: Own,
    pictures: Pic,
    size: Annotated[int, Query(ge=32, le=1024, description="Of the longest side, in pixels, at most.")] = 160,
) -> Response:
    """A small picture of an image, upright, as a JPEG; with an ETag, and 304."""
    wanted = await run_in_threadpool(_want, dataset, image_id, size, listings, own, pictures)
    etag = f'"{wanted.key[:32]}"'
    headers = {"ETag": etag, "Cache-Control": CACHED, **ALONE}
    if matches(request, etag):
        return Response(status_code=304, headers=headers)
    try:
        content = await pictures.get(wanted)
    except AsideRefused as error:
        raise Invalid([Problem(None, error.message, error.code)]) from error
    return Response(content, media_type=MEDIA_TYPE, headers=headers)


def images_of(name: str, listings: Listings, own: OwnDatasets, param: str = "dataset") -> Images:
    """The images of a dataset that is there for the caller.

    Raises:
        NotFound: there is none.
    """
    try:
        own.check(name)
        return listings.images(name)
    except DatasetNotFound as error:
        raise NotFound(own.missing(name), param=param) from error


def check_class(param: str, label: str, classes: tuple[str, ...]) -> None:
    """Refuses a class that is none.

    Raises:
        Invalid: it is not among the classes.
    """
    if label not in classes:
        message = f"there is no class {label[:100]!r}; {closest(label, classes)}"
        raise Invalid([Problem(param, message, "unknown_class")])


def _place(images: Images, after: str) -> int:
    place = images.places.get(after)
    if place is None:
        message = f"there is no image {after[:100]!r} to go on after"
        raise Invalid([Problem("after", message, "unknown_cursor")])
    return place


def _want(dataset: str, image_id: str, size: int, listings: Img, own: Own, pictures: Pic) -> Wanted:
    images = images_of(dataset, listings, own)
    image = images.find(image_id)
    if image is None:
        raise NotFound(f"the dataset has no image {image_id!r}", param="image_id")
    try:
        return pictures.want(image.listed.path, size)
    except OSError as error:
        raise NotFound(f"the file of image {image_id} is gone", param="image_id") from error
