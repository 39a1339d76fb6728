import numpy as np
import pytest
import torch

from finetune.report import reading
from finetune.report.one_label import OneLabel
from finetune.report.predictions import table_of, write_table
from finetune.report.reading import PredictionsUnreadable, read_rows
from finetune.report.several_labels import SeveralLabels

CLASSES = tuple("abcdef")
COUNT = 40


@pytest.fixture
def stored(tmp_path):
    def store(answers):
        path = tmp_path / "predictions.parquet"
        write_table(table_of(answers.columns(), {"classes": list(CLASSES), **answers.about()}), path)
        return path

    return store


def answers(kind):
    dice = torch.Generator().manual_seed(3)
    files, logits = [f"{i:02}.jpg" for i in range(COUNT)], torch.randn(COUNT, 6, generator=dice)
    if kind is OneLabel:
        return OneLabel.of(files, CLASSES, torch.randint(6, (COUNT,), generator=dice), logits, 0.0)
    labels = torch.randint(2, (COUNT, 6), generator=dice).float()
    return SeveralLabels.of(files, CLASSES, labels, logits, dict.fromkeys(CLASSES, 0.5), 0.0)


@pytest.mark.parametrize("kind", [OneLabel, SeveralLabels])
def test_a_file_is_read_the_same_in_parts(stored, kind, monkeypatch):
    path = stored(answers(kind))
    whole = read_rows(path)
    monkeypatch.setattr(reading, "MOST_NUMBERS", 18)  # three images
    parts = read_rows(path)
    assert [whole.show(row) for row in range(len(whole))] == [parts.show(row) for row in range(len(parts))]
    assert [whole.find(whole.key(row)) for row in range(len(whole))] == list(range(len(whole)))
    if kind is SeveralLabels:
        assert len(whole) == int((answers(kind).labels != answers(kind).given).sum())


def test_of_very_many_mistakes_the_surest_are_kept(stored, monkeypatch):
    path = stored(answers(SeveralLabels))
    every = read_rows(path)
    monkeypatch.setattr(reading, "MOST_NUMBERS", 18)
    monkeypatch.setattr(reading, "MOST_MISTAKES", 10)
    kept = read_rows(path)
    assert 10 <= len(kept) <= 20
    surest = {every.key(row) for row in np.argsort(-every.sure)[:10].tolist()}
    assert surest <= {kept.key(row) for row in range(len(kept))}


def test_what_holds_no_predictions_is_unreadable(tmp_path, stored):
    path = stored(answers(OneLabel))
    content = path.read_bytes()
    fewer = tmp_path / "fewer.parquet"
    write_table(table_of(answers(OneLabel).columns(), {"classes": list(CLASSES[:-1])}), fewer)
    for broken in (b"", content[:-9], content[:100], fewer.read_bytes()):
        path.write_bytes(broken)
        with pytest.raises(PredictionsUnreadable):
            read_rows(path)
    with pytest.raises(FileNotFoundError):
        read_rows(tmp_path / "absent.parquet")
