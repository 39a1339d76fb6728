"""What the API answers about datasets."""

from typing import Literal

from pydantic import BaseModel, Field

from app.checks import Check
from finetune.data.listing import Listing

Size = tuple[int, int]


class DatasetProblemAnswer(BaseModel):
    """One kind of problem: what is wrong, and what to do."""

    kind: str
    severity: Literal["error", "warning"]
    message: str
    files: list[str] = Field(description="The first 100, relative to the dataset's folder or its manifest's.")
    count: int = Field(description="Of all files that have it, or of classes.")


class SizesAnswer(BaseModel):
    """Width and height in pixels: of the smallest and the largest image by area, and the medians."""

    smallest: Size
    median: Size
    largest: Size


class DatasetCheckAnswer(BaseModel):
    """How far the check of the files is: `done` of `total` have been looked at."""

    status: Literal["running", "done", "failed"]
    done: int
    total: int | None = Field(description="Null until the check has counted them.")
    checked_at: float | None = Field(description="Unix seconds.")
    message: str | None = Field(description="Why it failed.")


class DatasetAnswer(BaseModel):
    """A dataset below the data root.

    Classes and counts are known at once. Fingerprint, sizes and problems of files come with the check.
    """

    object: Literal["dataset"] = "dataset"
    name: str
    classes: list[str]
    multi_label: bool = Field(description="Whether an image has any number of labels, and not one.")
    counts: dict[str, dict[str, int]] = Field(description="Images by split and class.")
    images: int
    sizes: SizesAnswer | None
    problems: list[DatasetProblemAnswer]
    fingerprint: str | None = Field(description="Changes when the dataset does.")
    check: DatasetCheckAnswer | None = Field(description="Null in lists.")

    @classmethod
    def of(cls, listing: Listing, check: Check | None = None) -> "DatasetAnswer":
        """What is listed, and what the check has found by now."""
        progress = check and _progress(check)  # first: what is done by now has been found
        found = (check and check.found) or {}
        layout = [
            {"kind": "layout", "severity": "error", "message": problem, "files": [], "count": 0}
            for problem in listing.problems
        ]
        return cls.model_validate(
            {
                "name": listing.name,
                "classes": list(listing.classes),
                "multi_label": listing.multi_label,
                "counts": listing.counts,
                "images": sum(map(len, listing.images.values())),
                "sizes": found.get("sizes"),
                "problems": found.get("problems", layout),
                "fingerprint": found.get("fingerprint"),
                "check": progress,
            }
        )


def _progress(check: Check) -> dict[str, object]:
    return {
        "status": check.status,
        "done": check.done,
        "total": check.total,
        "checked_at": (check.found or {}).get("checked_at"),
        "message": check.message,
    }
