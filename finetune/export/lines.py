"""The lines that load a model without Thaw; the same stand in docs/loading.md. Loads no torch."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from finetune.export.orders import Format

templates = Environment(
    loader=PackageLoader("finetune.export"),
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    undefined=StrictUndefined,
    autoescape=False,  # Python and Markdown, no HTML
)


def lines_of(opened: Format, answer: str, builder: str, file: str, inside: bool = False) -> str:
    """The lines for a file.

    Args:
        opened: what the file is.
        answer: what the network gives, `classes`, `labels` or `embedding`.
        builder: who builds the network where the file has its weights alone: `torchvision`, `timm` or `own`.
        file: its name.
        inside: whether its graph prepares images itself.
    """
    rendered = templates.get_template("lines.py.j2").render(
        opened=opened.value, answer=answer, builder=builder, file=file, inside=inside
    )
    return rendered.strip() + "\n"


def checkpoint_lines(resolved_spec: dict[str, Any]) -> str:
    """The lines for the checkpoints of a job with this spec: torchvision's or timm's networks."""
    objective = resolved_spec.get("objective", {}).get("name")
    answer = {"triplet": "embedding", "binary_cross_entropy": "labels"}.get(objective, "classes")
    backbone = resolved_spec.get("backbone", {}).get("name", "")
    builder = "timm" if backbone.startswith("timm/") else "torchvision"
    return lines_of(Format.SAFETENSORS, answer, builder, "best.safetensors")
