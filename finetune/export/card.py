"""The model card, and the same as plain data: how the model is used, and where it comes from."""

import json
import re
from typing import Any

from finetune.export.comparing import Comparison
from finetune.export.graph import INPUT, output_of
from finetune.export.lines import lines_of, templates
from finetune.export.orders import Order
from finetune.spec.text import UNKNOWN, UNSEEN
from finetune.trained import TrainedModel

MARKS = re.compile(r"([\\`*_{}\[\]<>()#+!|~&-])")


def facts(
    model: TrainedModel, order: Order, file: str, comparison: Comparison, same_data: bool
) -> dict[str, Any]:
    """What stands in `model.json`; `same_data` as in `Exported`."""
    about, inside, crop = model.about, order.wanted.preprocessing, model.preprocessing.crop
    size = [crop, crop]
    signature: dict[str, dict[str, Any]] = {
        "input": {"name": INPUT, "dtype": "float32", "shape": ["batch", 3, *size]},
        "output": {"name": output_of(model), "dtype": "float32"},
    }
    if inside:
        signature["input"] |= {"dtype": "uint8", "shape": ["batch", 3, "height", "width"]}
    return {
        "format": order.wanted.format.value,
        "file": file,
        "answer": model.answer,
        "classes": list(model.classes),
        "thresholds": model.thresholds if model.answer == "labels" else None,
        "normalize": model.normalize if model.answer == "embedding" else None,
        "preprocessing": model.preprocessing.to_json(),
        "preprocessing_in_graph": inside,
        **(signature if order.wanted.format.is_graph else {}),
        "backbone": about["backbone"],
        "backbone_options": about.get("backbone_options", {}),
        "outputs": about["outputs"],
        "heads": about.get("heads", []),
        "objective": about["objective"],
        "job": order.job,
        "checkpoint": order.checkpoint,
        "stage": about["stage"],
        "global_epoch": about.get("global_epoch"),
        "val": about.get("val", {}),
        "dataset": order.spec["dataset"]["path"],
        "dataset_fingerprint": about.get("dataset"),
        "comparison": {
            "largest_difference": comparison.largest_difference,
            "images": comparison.images,
            "same_data": same_data,
        },
    }


def card(told: dict[str, Any], order: Order, source: str) -> str:
    """The card, Markdown. `source` is the backbone's, see `Backbone`."""
    builder = "own" if source == "registered" else source
    wanted = order.wanted
    lines = lines_of(wanted.format, told["answer"], builder, told["file"], wanted.preprocessing)
    return templates.get_template("card.md.j2").render(
        told=told,
        order=order,
        graph=wanted.format.is_graph,
        own=builder == "own" and not wanted.format.is_graph,
        standing=_standing(order),
        spec=_spelled_out(json.dumps(order.spec, indent=2, ensure_ascii=False)),
        lines=lines,
        needed=_needed(lines),
    )


def _standing(order: Order) -> str:
    names = [name for name, true in (("best", order.best), ("last", order.last)) if true]
    if not names:
        return "neither the best nor the last of its job"
    return f"the {' and the '.join(names)} of its job{'' if order.ended else ' when it was exported'}"


def _needed(lines: str) -> str:
    """The packages that the lines import, as `pip` calls them."""
    names = {"PIL": "pillow"}
    imported = re.findall(r"^ *(?:import|from) (\w+)", lines, re.MULTILINE)
    return " ".join(sorted({names.get(name, name) for name in imported} - {"json"}))


def _plain(text: object) -> str:
    """Text as it is: on one line, and nothing in it is Markdown."""
    return MARKS.sub(r"\\\1", UNSEEN.sub(UNKNOWN, " ".join(str(text).split())))


def _spelled_out(text: str) -> str:
    """JSON that says the same, with what nobody sees as JSON's escapes."""
    return UNSEEN.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


templates.filters["plain"] = _plain
