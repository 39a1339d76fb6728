"""The exporter: what a process beside the server answers with."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from finetune.backbones import Registry, load
from finetune.checkpoint import is_disk_full, write_atomically
from finetune.errors import DiskFull, ExportFailed, FinetuneError
from finetune.export.bundle import write_bundle
from finetune.export.card import card, facts
from finetune.export.comparing import compare, is_same_data, validation_images
from finetune.export.formats import FORMATS
from finetune.export.orders import Exported, Order
from finetune.reasons import reason_of
from finetune.trained import open_model


def open_exporter(
    data_dir: Path, checks_dir: Path, backbones: tuple[str, ...]
) -> Callable[[Order, Callable[[object], None]], Exported]:
    """Gives what answers orders. `backbones` are the operator's, each `package.module:attribute`."""
    registry = load(backbones)

    def answer(order: Order, tell: Callable[[object], None]) -> Exported:
        return export(order, data_dir, registry, checks_dir)

    return answer


def export(order: Order, data_dir: Path, registry: Registry, checks_dir: Path | None = None) -> Exported:
    """Writes the bundle of a checkpoint, after its model has been opened anew and compared.

    Raises:
        ExportFailed: the network cannot be exported, or answers otherwise then.
        DatasetGone: there is nothing to compare it on.
        WeightsNotFound, WeightsIncompatible, SpecInvalid: as `open_model` says.
        DiskFull: there is no room.
    """
    work = order.work_folder
    shutil.rmtree(work, ignore_errors=True)  # of one that was killed
    try:
        work.mkdir(parents=True)
        return _export(order, data_dir, registry, checks_dir)
    except FinetuneError:
        raise
    except Exception as error:  # whatever the exporters and an operator's network raise is shown
        if is_disk_full(error):
            raise DiskFull("no room left for an export: free some where the artifacts are") from error
        if isinstance(error, OSError):  # of the folders here, and not of the network
            raise
        message = f"{order.wanted.key} cannot be made of this network: {reason_of(_first(error))}"
        raise ExportFailed(message) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _export(order: Order, data_dir: Path, registry: Registry, checks_dir: Path | None) -> Exported:
    form, work = FORMATS[order.wanted.format], order.work_folder
    model = open_model(order.weights, registry, sha256=order.sha256)
    paths = validation_images(data_dir, order.spec)
    same = is_same_data(data_dir, checks_dir, order.spec, model.about.get("dataset"))
    form.write(model, order, work / form.file)
    anew = form.open_anew(work / form.file, model, registry)
    comparison = compare(model, anew, paths, data_dir, order.wanted.preprocessing)
    files = sorted(work.iterdir())  # a large ONNX model has its weights beside it
    told = facts(model, order, form.file, comparison, same)
    source = registry.find(model.about["backbone"]).source
    texts = {
        "README.md": card(told, order, source),
        "model.json": json.dumps(told, indent=2, ensure_ascii=False) + "\n",
    }
    bundle = work / order.target.name
    sha256, size = write_atomically(bundle, lambda temporary: write_bundle(temporary, files, texts))
    bundle.replace(order.target)
    return Exported(size, sha256, comparison.largest_difference, comparison.images, same)


def _first(error: BaseException) -> BaseException:
    """What an error began with."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
