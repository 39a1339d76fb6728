"""What `backbone.name` may be here."""

from fastapi import APIRouter

from app.api import examples
from app.api.schemas import BackboneAnswer, Page, page
from app.api.state import Cat
from app.catalog import Catalog
from finetune.errors import SpecInvalid

router = APIRouter(prefix="/v1/backbones", tags=["backbones"])


@router.get("", response_model=Page[BackboneAnswer], responses=examples.backbones)
def list_backbones(catalog: Cat) -> Page[BackboneAnswer]:
    """Every backbone, the operator's first, with its weights' names, its head and its parameters."""
    return page([_answer(catalog, name) for name in catalog.registry.names()], "name")


def _answer(catalog: Catalog, name: str) -> BackboneAnswer:
    from finetune.backbones import parameter_count

    row = catalog.registry.find(name)
    try:
        parameters, problem = parameter_count(row), None
    except SpecInvalid as error:
        parameters, problem = None, error.message
    return BackboneAnswer(
        name=row.name,
        source=row.source,
        weights=list(row.weights),
        head=list(row.heads),
        parameters=parameters,
        image_size=row.preprocessing.crop,
        problem=problem,
    )
