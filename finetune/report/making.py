"""The end of a run: its best checkpoint is loaded anew, and its answers to the validation images reported."""

import json
from collections.abc import Iterator
from time import monotonic
from typing import Any

from finetune.checkpoint import write_atomically
from finetune.errors import FinetuneError
from finetune.events import Event, ReportFiles, ReportReady, Warned
from finetune.objectives.embeddings import placed
from finetune.objectives.multilabel import targets_of
from finetune.report.answers import Answers
from finetune.report.embedding import Embedded
from finetune.report.fields import AnyReport
from finetune.report.old_classes import OldAnswers, images_of, logits_before
from finetune.report.one_label import OneLabel
from finetune.report.predictions import files_below, table_of, write_table
from finetune.report.reproduction import ROUNDING, Again, reproduce
from finetune.report.several_labels import SeveralLabels
from finetune.run import Run
from finetune.saving import with_room
from finetune.spec.objectives import Triplet

REPORT, PREDICTIONS = "report.json", "predictions.parquet"


def report_on(run: Run) -> Iterator[Event]:
    """Loads the best checkpoint anew, compares its metric, and writes the report and the predictions.

    Raises:
        NotReproduced: the checkpoint is gone or damaged, or does not give its metric again.
        DiskFull: there is no room for the files.
    """
    begun = monotonic()
    again = reproduce(run)
    if abs(again.reproduced.difference or 0.0) > ROUNDING:
        yield Warned(_moved(again))
    try:
        old = _old_answers(run, again)
    except FinetuneError as error:
        old = None
        yield Warned(f"the report cannot compare the old classes with how the run began: {error.message}")
    answers = _answers(run, again, old)
    report = answers.shape.model_validate({**_common(run, again, answers), **answers.report()})
    yield ReportReady(
        weights=again.weights,
        files=_write(run, answers, report),
        figures=json.loads(report.figures.model_dump_json()),
        reproduced=report.reproduced.model_dump(),
        seconds=monotonic() - begun,
    )


def _moved(again: Again) -> str:
    found = again.reproduced
    return (
        f"the best checkpoint was loaded anew and gives {found.metric} {found.again:.6g} where "
        f"{found.stored:.6g} was stored, as another machine's rounding may do"
    )


def _old_answers(run: Run, again: Again) -> OldAnswers | None:
    """Of the images of classes whose rows the head kept; None where there are none."""
    kept = [run.dataset.classes.index(name) for name in run.blueprint.head.kept]
    labels = run.val.loader.labels()
    images = images_of(kept, labels).tolist() if again.model.answer == "classes" else []
    return OldAnswers.of(kept, labels, logits_before(run, images), again.outputs) if images else None


def _answers(run: Run, again: Again, old: OldAnswers | None) -> Answers:
    files = files_below(run.data_folder, (sample.path for sample in run.val.loader.samples))
    classes, labels, outputs = run.dataset.classes, run.val.loader.labels(), again.outputs
    objective, loss = run.spec.objective, again.evaluation.figures["loss"]
    if isinstance(objective, Triplet):
        points = placed(outputs, again.model.normalize)
        return Embedded.of(files, classes, labels, points, objective.margin)
    if again.model.answer == "labels":
        targets = targets_of(labels, outputs)
        return SeveralLabels.of(files, classes, targets, outputs, again.model.thresholds, loss)
    return OneLabel.of(files, classes, labels, outputs, loss, old)


def _common(run: Run, again: Again, answers: Answers) -> dict[str, Any]:
    about = again.model.about
    return {
        "job": run.job,
        "objective": run.spec.objective.name,
        "checkpoint": {
            "stage": about["stage"],
            "global_epoch": about["global_epoch"],
            "sha256": again.sha256,
        },
        "dataset": {"name": run.dataset.name, "fingerprint": about.get("dataset")},
        "classes": run.dataset.classes,
        "images": len(answers.files),
        "nonfinite": int((~answers.finite).sum()),
        "reproduced": again.reproduced,
    }


def _write(run: Run, answers: Answers, report: AnyReport) -> ReportFiles:
    about = {"objective": run.spec.objective.name, "classes": list(run.dataset.classes), **answers.about()}
    table, text = table_of(answers.columns(), about), report.model_dump_json()
    path, predictions = run.folder / REPORT, run.folder / PREDICTIONS
    content = text.encode()
    predictions_sha256, predictions_size = with_room(
        run, lambda: write_atomically(predictions, lambda to: write_table(table, to), table.nbytes)
    )
    sha256, size = with_room(
        run, lambda: write_atomically(path, lambda to: to.write_bytes(content), len(content))
    )
    return ReportFiles(path, sha256, size, predictions, predictions_sha256, predictions_size)
