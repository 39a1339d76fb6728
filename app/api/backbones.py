"""What `backbone.name` may be here."""

from typing import TYPE_CHECKING

from fastapi import APIRouter

from app.api import examples
from app.api.schemas import BackboneAnswer, Page, page
from app.api.state import Cat
from finetune.errors import SpecInvalid

if TYPE_CHECKING:
    from finetune.backbones import Backbone

router = APIRouter(prefix="/v1/backbones", tags=["backbones"])


@router.get("", response_model=Page[BackboneAnswer], responses=examples.backbones)
def list_backbones(catalog: Cat) -> Page[BackboneAnswer]:
    """Every backbone, the operator's first, with its weights' names, its head and its parameters."""
    return page([_answer(row) for row in catalog.registry.rows()], "name")


def _answer(row: "Backbone") -> BackboneAnswer:
    from finetune.backbones import parameter_count

    parameters, problem = None, None
    try:
        if row.source != "timm":  # its thousand networks would have to be built
            parameters = parameter_count(row)
    except SpecInvalid as error:
        problem = error.message
    return BackboneAnswer(
        name=row.name,
        source=row.source,
        weights=list(row.weights),
        head=list(row.heads),
        parameters=parameters,
        image_size=row.preprocessing.crop,
        problem=problem,
    )
