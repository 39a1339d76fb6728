"""Every figure of a report from the stored predictions alone, by scikit-learn."""

import json
import math
from itertools import pairwise

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    confusion_matrix,
    f1_score,
    log_loss,
    multilabel_confusion_matrix,
    precision_recall_fscore_support,
    recall_score,
    top_k_accuracy_score,
)
from sklearn.neighbors import NearestNeighbors

from finetune.report.predictions import table_of, write_table


def per_class(truth, said, classes, **options):
    columns = precision_recall_fscore_support(truth, said, zero_division=0, **options)
    return [
        dict(zip(("name", "precision", "recall", "f1", "support"), row, strict=True))
        for row in zip(classes, *(column.tolist() for column in columns), strict=True)
    ]


def calibration(probabilities, right, bins=10):
    """Bins of equal width, closed below; the last one above, too."""
    edges = np.linspace(0, 1, bins + 1)
    rows, error = [], 0.0
    for low, high in pairwise(edges):
        inside = (probabilities >= low) & ((probabilities < high) | (high == 1))
        share = inside.mean()
        row = {"low": low, "high": high, "count": inside.sum(), "share": share}
        mean = accuracy = None
        if inside.any():
            mean, accuracy = probabilities[inside].mean(), right[inside].mean()
            error += abs(accuracy - mean) * share
        rows.append(row | {"mean_confidence": mean, "accuracy": accuracy})
    return {"error": error, "count": len(right), "bins": rows}


def single(truth, said, classes):
    """What one label and one prediction an image give."""
    present = sorted(set(truth))
    return {
        "accuracy": accuracy_score(truth, said),
        "macro_f1": f1_score(truth, said, average="macro", zero_division=0),
        "balanced_accuracy": recall_score(truth, said, labels=present, average="macro", zero_division=0),
    }, {
        "per_class": per_class(truth, said, classes, labels=classes),
        "confusion": confusion_matrix(truth, said, labels=classes).tolist(),
        "mistake_count": sum(a != b for a, b in zip(truth, said, strict=True)),
    }


def of_one_label(rows, classes):
    truth, said = [row["label"] for row in rows], [row["prediction"] for row in rows]
    probabilities = np.array([row["probabilities"] for row in rows], dtype=np.float64)
    figures, more = single(truth, said, classes)
    index = np.array([classes.index(name) for name in truth])
    everything = list(range(len(classes)))
    figures["loss"] = log_loss(index, probabilities / probabilities.sum(1, keepdims=True), labels=everything)
    figures["top_5_accuracy"] = (
        top_k_accuracy_score(index, probabilities, k=5, labels=everything) if len(classes) > 5 else None
    )
    confidence = np.array([row["probability"] for row in rows], dtype=np.float64)
    right = np.array(truth) == np.array(said)
    wrong = sorted((r for r in rows if r["label"] != r["prediction"]), key=lambda r: -r["probability"])
    mistakes = [
        {name: row[name] for name in ("file", "label", "prediction", "probability")}
        | {"probability_of_label": row["probabilities"][classes.index(row["label"])]}
        for row in wrong[:50]
    ]
    return more | {"figures": figures, "calibration": calibration(confidence, right), "mistakes": mistakes}


def of_several_labels(rows, classes):
    truth, said = (
        np.array([[name in row[column] for name in classes] for row in rows], dtype=int)
        for column in ("labels", "predictions")
    )
    probabilities = np.array([row["probabilities"] for row in rows], dtype=np.float64)
    there = np.asarray(truth.any(0))
    precisions = [
        average_precision_score(truth[:, c], probabilities[:, c]) if there[c] else None
        for c in range(len(classes))
    ]
    f1 = f1_score(truth, said, average=None, zero_division=0)
    figures = {
        "map": np.mean([p for p in precisions if p is not None]),
        "macro_f1": f1[there].mean(),
        "micro_f1": f1_score(truth, said, average="micro", zero_division=0),
        "loss": -np.where(truth, np.log(probabilities), np.log1p(-probabilities)).mean(),
    }
    rows_of_classes = per_class(truth, said, classes)
    for row, precision in zip(rows_of_classes, precisions, strict=True):
        row["average_precision"] = precision
    return {
        "figures": figures,
        "per_class": rows_of_classes,
        "confusion": multilabel_confusion_matrix(truth, said).tolist(),
        "calibration": calibration(probabilities.ravel(), truth.ravel()),
        "mistake_count": int((truth != said).sum()),
    }


def of_embedding(rows, classes):
    truth = [row["label"] for row in rows]
    points = np.array([row["embedding"] for row in rows], dtype=np.float64)
    # The first neighbour is the image itself, unless another one lies in the same place.
    distances, places = NearestNeighbors(n_neighbors=2, algorithm="brute").fit(points).kneighbors()
    said = [truth[place] for place in places[:, 0]]
    figures, more = single(truth, said, classes)
    nearest = sorted(
        (
            {"file": row["file"], "label": row["label"], "prediction": truth[place]}
            | {"neighbour": rows[place]["file"], "distance": distance}
            for row, place, distance in zip(rows, places[:, 0], distances[:, 0], strict=True)
            if row["label"] != truth[place]
        ),
        key=lambda row: row["distance"],
    )
    return more | {"figures": figures, "mistakes": nearest[:50]}


KINDS = {
    "one_label": of_one_label,
    "several_labels": of_several_labels,
    "embedding": of_embedding,
}


@pytest.fixture(scope="session")
def recomputed():
    """`recomputed(kind, path)`: what scikit-learn says of the predictions in a file."""

    def read(kind, path):
        table = pq.read_table(path)
        return KINDS[kind](table.to_pylist(), json.loads(table.schema.metadata[b"classes"]))

    return read


@pytest.fixture
def stored(tmp_path):
    """Stores answers as a run does."""

    def write(answers):
        path = tmp_path / "predictions.parquet"
        write_table(table_of(answers.columns(), {"classes": list(answers.classes), **answers.about()}), path)
        return path

    return write


def assert_same(found, expected, where="report"):
    """Every expected value is found, numbers to six digits; what is found beside them does not count."""
    if isinstance(expected, dict):
        for name, value in expected.items():
            assert_same(found[name], value, f"{where}.{name}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for number, (a, b) in enumerate(zip(found, expected, strict=True)):
            assert_same(a, b, f"{where}.{number}")
    elif expected is None:
        assert found is None or math.isnan(found), where  # NaN is written as null
    elif isinstance(expected, str):
        assert found == expected, where
    else:
        assert found == pytest.approx(expected, abs=1e-6, rel=1e-5), where


@pytest.fixture(scope="session")
def same():
    return assert_same
