"""What `backbone.name` may be here."""

from fastapi import APIRouter

from app.api import examples
from app.api.schemas import BackboneAnswer, Page, page
from app.api.state import Cat

router = APIRouter(prefix="/v1/backbones", tags=["backbones"])


@router.get("", response_model=Page[BackboneAnswer], responses=examples.backbones)
def list_backbones(catalog: Cat) -> Page[BackboneAnswer]:
    """Every backbone, the operator's first, with its weights' names, its head and its parameters."""
    from finetune.backbones import parameter_count

    rows = [catalog.registry.find(name) for name in catalog.registry.names()]
    return page(
        [
            BackboneAnswer(
                name=row.name,
                source=row.source,
                weights=list(row.weights),
                head=list(row.heads),
                parameters=parameter_count(row),
                image_size=row.preprocessing.crop,
            )
            for row in rows
        ],
        "name",
    )
