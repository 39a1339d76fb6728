import pytest
import torch

from finetune.report.embedding import Embedded, nearest

NAMES = ("ants", "bees", "wasps")


def answers(points, labels, margin=0.2):
    files = [f"val/{number:03}.png" for number in range(len(labels))]
    return Embedded.of(files, NAMES, torch.as_tensor(labels), torch.as_tensor(points).float(), margin)


def drawn(images=60, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (images,), generator=generator)
    return torch.randn(images, 4, generator=generator) + labels[:, None], labels


def test_every_figure_is_scikit_learns_on_the_stored_embeddings(stored, recomputed, same):
    for seed in range(5):
        found = answers(*drawn(seed=seed))
        same(found.report(), recomputed("embedding", stored(found)))


def test_more_images_than_are_looked_at_at_once_make_no_difference(monkeypatch):
    points, labels = drawn(50)
    whole = nearest(points.double(), labels)
    monkeypatch.setattr("finetune.report.embedding.ROWS", 7)
    parts = nearest(points.double(), labels)
    assert torch.equal(whole[0], parts[0])
    assert torch.equal(whole[1], parts[1])


def test_the_share_whose_nearest_is_of_its_class_is_the_recall_at_one():
    figures = answers(*drawn()).report()["figures"]
    assert figures["accuracy"] == figures["recall_at_1"]


def test_of_equally_near_images_one_of_another_class_is_taken():
    points = torch.tensor([[0.0], [1.0], [-1.0], [5.0], [5.0], [5.0]])
    found = answers(points, [0, 0, 1, 2, 2, 1])
    assert found.neighbours.tolist() == [2, 0, 0, 5, 5, 3]
    assert found.distances.tolist() == [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]


def test_an_image_alone_in_its_class_is_a_mistake_and_no_anchor():
    report = answers(torch.tensor([[0.0], [0.1], [0.2], [1.0]]), [0, 0, 0, 1]).report()
    assert report["figures"]["recall_at_1"] == 1.0
    assert report["figures"]["accuracy"] == 0.75
    assert report["confusion"] == [[3, 0, 0], [1, 0, 0], [0, 0, 0]]
    (mistake,) = report["mistakes"]
    assert mistake["distance"] == pytest.approx(0.8)
    assert (mistake["file"], mistake["neighbour"]) == ("val/003.png", "val/002.png")


def test_mistakes_are_the_nearest_ones():
    report = answers(*drawn(400)).report()
    distances = [mistake["distance"] for mistake in report["mistakes"]]
    assert len(distances) == 50 < report["mistake_count"]
    assert distances == sorted(distances)


def test_embeddings_that_are_not_finite_are_no_mistakes_and_nobodys_neighbours():
    points, labels = drawn(20)
    points[3] = float("nan")
    found = answers(points, labels)
    report = found.report()
    assert sum(map(sum, report["confusion"])) == 20
    assert 3 not in found.neighbours[torch.arange(20) != 3]
    assert all(mistake["file"] != "val/003.png" for mistake in report["mistakes"])
