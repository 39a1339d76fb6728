"""The command that asks a trained network about images."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from client.predicting import Asker
from client.predictions import Prediction
from client.shell import JobArgument, JsonOption, open_client, print_json
from client.tables import ABSENT, number, open_console, show, table_of
from client.text import one_line

FilesArgument = Annotated[list[Path], typer.Argument(metavar="FILE", help="Images.", show_default=False)]


def predict(
    ctx: typer.Context,
    job_id: JobArgument,
    files: FilesArgument,
    checkpoint: Annotated[str, typer.Option(help="best, last or a checkpoint's ID.")] = "best",
    top: Annotated[int, typer.Option(min=1, help="How many classes are listed for each image.")] = 5,
    as_json: JsonOption = False,
) -> None:
    """Say what a job's network sees in images.

    A file that cannot be read, or is no image, is named; the others are answered all the same. Exits with 1
    where there was such a file.
    """
    predictions, failed = list[Prediction](), 0
    try:
        with open_client(ctx) as client:
            for index, (file, outcome) in enumerate(Asker(client, job_id, checkpoint, top).outcomes(files)):
                if isinstance(outcome, str):
                    failed += 1
                    typer.echo(f"thaw: {one_line(f'{file}: {outcome}')}", err=True)
                else:
                    predictions.append(outcome.model_copy(update={"index": index, "file": str(file)}))
    finally:  # also where the server goes away in the middle
        if as_json:
            print_json(predictions)
        elif predictions:
            _print(predictions)
    if failed:
        raise typer.Exit(1)


def _print(predictions: list[Prediction]) -> None:
    """A row per image and class, or per embedding."""
    if predictions[0].embedding is not None:
        table, cells = table_of("file", "embedding"), _embedding_cells
    elif predictions[0].labels is not None:
        table, cells = table_of("file", "labels", "class", "probability"), _label_cells
    else:
        table, cells = table_of("file", "class", "probability"), _class_cells
    for prediction in predictions:
        for row in cells(prediction):
            table.add_row(*(one_line(cell) for cell in row))
    show(open_console(), table)


def _embedding_cells(prediction: Prediction) -> Iterator[tuple[str, ...]]:
    yield prediction.file or ABSENT, f"{len(prediction.embedding or ())} numbers; --json prints them"


def _label_cells(prediction: Prediction) -> Iterator[tuple[str, ...]]:
    labels = ", ".join(prediction.labels or ()) or ABSENT
    for file, name, probability in _class_cells(prediction):
        yield file, labels, name, probability


def _class_cells(prediction: Prediction) -> Iterator[tuple[str, str, str]]:
    for found in prediction.classes or ():
        yield prediction.file or ABSENT, found.name, number(found.probability)
