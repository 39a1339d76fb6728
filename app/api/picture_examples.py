"""The examples of a dataset's images on the OpenAPI page."""

from typing import Any

from app.api.dataset_examples import unknown as unknown_dataset
from app.api.examples import Responses, in_json, listed, refusal

IMAGE: dict[str, Any] = {
    "object": "dataset.image",
    "id": "img_5f9d1c7be20a4c8fb3d6e901",
    "file": "train/ants/0013035.jpg",
    "split": "train",
    "labels": ["ants"],
}
_binary = {"schema": {"type": "string", "format": "binary"}}

images: Responses = {
    200: in_json("A page of images.", listed(IMAGE, "id")),
    **unknown_dataset,
    **refusal(422, "unknown_class", "class: there is no class 'ant'; did you mean 'ants'?"),
}
picture: Responses = {
    200: {"description": "The picture.", "content": {"image/jpeg": _binary}},
    304: {"description": "The client has it already."},
    **refusal(404, "not_found", f"the dataset has no image {IMAGE['id']!r}"),
    **refusal(422, "image_invalid", "the image cannot be shown: it is no image of a format that is read"),
    **refusal(503, "unavailable", "the drawer of pictures is busy; try again"),
}
