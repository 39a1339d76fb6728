"""The lines that load a job's model without Thaw; the same stand in docs/loading.md."""

import re
from pathlib import Path

from app.store.records import Json

_FOLDER = Path(__file__).parent / "templates"
_CLASSIFY, _LABELS, _EMBED, _TIMM, _TIMM_EMBEDDING = (
    (_FOLDER / f"{name}.py.txt").read_text()
    for name in ("load_checkpoint", "load_labels", "load_embedding", "build_timm", "build_timm_embedding")
)
_BUILD = re.compile(r"model = get_model\((?:\n.*?\n\)|[^\n]*\))\n", re.DOTALL)


def loading_lines(resolved_spec: Json) -> str:
    """The lines for what the job trains, and for who builds its network: torchvision or timm."""
    lines, build = _CLASSIFY, _TIMM
    match resolved_spec.get("objective", {}).get("name"):
        case "triplet":
            lines, build = _EMBED, _TIMM_EMBEDDING
        case "binary_cross_entropy":
            lines = f"{_CLASSIFY}\n{_LABELS}"
    if resolved_spec.get("backbone", {}).get("name", "").startswith("timm/"):
        lines = _BUILD.sub(lambda _: build, lines, count=1)
    return lines
