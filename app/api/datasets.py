"""The datasets below the data root: the list, looking at one, sending one."""

import asyncio
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from app.api import dataset_examples as examples
from app.api.conditional import answer
from app.api.dataset_schemas import DatasetAnswer
from app.api.schemas import Page, page
from app.api.state import Chk, Db, Img, Own, Quo, Set, Who
from app.errors import NotFound
from app.rights import Rights
from app.uploads import upload
from finetune.data.dataset import list_dataset
from finetune.errors import DatasetNotFound

router = APIRouter(prefix="/v1/datasets", tags=["datasets"])

LONGEST_WAIT = 60.0


@router.get("", response_model=Page[DatasetAnswer], responses=examples.datasets)
def list_datasets(settings: Set, own: Own) -> Page[DatasetAnswer]:
    """The folders right below the data root, and the manifests there and in those folders. Not checked."""
    found = []
    for name in own.names():
        with suppress(DatasetNotFound):  # a link out of the data root, or one that was just removed
            found.append(DatasetAnswer.of(list_dataset(settings.data_dir, name)))
    return page(found, "name")


@router.get("/{name:path}", response_model=DatasetAnswer, responses=examples.dataset)
async def get_dataset(
    name: str,
    request: Request,
    checks: Chk,
    own: Own,
    wait: Annotated[
        float, Query(ge=0, le=LONGEST_WAIT, description="Seconds to wait for the check's end.")
    ] = 10.0,
) -> Response:
    """A dataset's classes and images, and what its files' check finds; with an ETag, and 304.

    The check begins with this call, and goes on where the time to wait for it is over: ask again until
    `check.status` is no longer `running`. Only what is new since the last check is opened.
    """
    try:
        await run_in_threadpool(own.check, name)
        listing, check = await run_in_threadpool(checks.look, _plain(name))
    except DatasetNotFound as error:
        raise NotFound(await run_in_threadpool(own.missing, name), param="name") from error
    if wait > 0:
        await asyncio.wait([asyncio.wrap_future(check.ended)], timeout=wait)
    return answer(request, DatasetAnswer.of(listing, check), {"check": {"checked_at"}})


@router.put("/{name:path}", response_model=DatasetAnswer, **examples.upload)
async def put_dataset(
    name: str,
    request: Request,
    settings: Set,
    db: Db,
    caller: Who,
    checks: Chk,
    listings: Img,
    own: Own,
    quota: Quo,
    replace: Annotated[bool, Query(description="Whether a dataset of that name may go for it.")] = False,
) -> Response:
    """Takes in a zip archive as the dataset of that name: as a whole, or not at all.

    What lies in one top folder is the dataset, unless that folder is `train`, `val` or a class. Hidden files
    are left out. The check of the files begins at once.
    """
    length = request.headers.get("content-length")
    rights, size = Rights(db, caller, own, quota), int(length) if length else None
    replaced = await upload(settings, rights, name, size, request.stream(), replace)
    checks.forget(name)
    listings.forget(name)
    listing, check = await run_in_threadpool(checks.look, name)
    body = DatasetAnswer.of(listing, check).model_dump_json()
    return Response(body, 200 if replaced else 201, media_type="application/json")


def _plain(name: str) -> str:
    """The one of the ways to write a path that has nothing needless in it: each name is checked once."""
    return str(PurePosixPath(name)) if "\x00" not in name and name else name
