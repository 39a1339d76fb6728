"""What is wrong with a dataset whose files have been looked at: a row of `RULES` for each kind of problem."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from finetune.data.examination import Examination
from finetune.data.facts import Verdict
from finetune.data.leaks import Pair, find_leaks
from finetune.data.listing import Counts, count_labels, missing_classes, names
from finetune.data.placeholders import find_placeholders
from finetune.data.problems import DataProblem, Severity, counted, file_problem, first_of

TINY = 5  # images to train on, below which a class is tiny
UNBALANCED = 10  # times as many images as the smallest class has

Found = Iterator[DataProblem]
Rule = Callable[[Examination], Found]


def layout(seen: Examination) -> Found:
    """What keeps the dataset from being read or split."""
    known = set(missing_classes(seen.listing.counts))
    for sentence in seen.listing.problems:
        if sentence not in known:
            yield DataProblem("layout", "error", sentence, count=1)


def class_missing(seen: Examination) -> Found:
    """Classes that a split has nothing of."""
    known = missing_classes(seen.listing.counts)
    severity: Severity = "error" if set(known) & set(seen.listing.problems) else "warning"
    for split, by in sound_counts(seen).items():
        missing = [name for name in seen.listing.classes if not by.get(name)]
        if missing and len(missing) < len(seen.listing.classes):
            message = f"no image in {split} of {names(missing)}: add some, or remove the class everywhere"
            yield DataProblem("class_missing", severity, message, count=len(missing))


def unreadable(seen: Examination) -> Found:
    """Images that are truncated, damaged or out of reach."""
    yield from _unsound(seen, "unreadable", "cannot be read whole", "mend or remove")


def not_an_image(seen: Examination) -> Found:
    """Files of another kind in a class's place."""
    yield from _unsound(seen, "not_an_image", "are no images", "remove")


def _unsound(seen: Examination, kind: Verdict, are: str, cure: str) -> Found:
    files = [path for path, one in seen.facts.items() if one.verdict == kind]
    if files:
        shown = first_of([f"{seen.name(path)} ({seen.facts[path].reason})" for path in files])
        message = f"{counted(files, 'file')} {are}: {shown}: {cure} them, or train without them"
        yield file_problem(kind, "error", message, [seen.name(path) for path in files])


def placeholder(seen: Examination) -> Found:
    """Pictures that stand for an image that was not there."""
    files = [seen.name(path) for path in find_placeholders(seen.facts, seen.facts)]
    if files:
        message = (
            f"{counted(files, 'file')} of almost one colour, unlike the others: {first_of(files)}: "
            "if it says that there is no image, remove it"
        )
        yield file_problem("placeholder", "warning", message, files)


def leak(seen: Examination) -> Found:
    """Copies on both sides of the splits as they are listed."""
    sound = {split: [image.path for image in images] for split, images in seen.sound().items()}
    for kind, pairs in find_leaks(sound["train"], sound.get("val", ()), seen.facts).by_kind().items():
        yield leak_problem(seen, kind, pairs)


def leak_problem(seen: Examination, kind: str, pairs: Sequence[Pair]) -> DataProblem:
    """Of pairs of an image to train on and one of validation."""
    how = "the same as" if kind == "leak" else "nearly the same as"
    shown = first_of([f"{seen.name(train)} is {seen.name(val)}" for train, val in pairs])
    message = (
        f"{counted({ours for ours, _ in pairs}, 'image')} to train on {how} images of validation: {shown}: "
        "the validation score says too much, remove one of each pair"
    )
    both = dict.fromkeys(seen.name(path) for pair in pairs for path in pair)
    return file_problem(kind, "warning", message, list(both))


def conflicting_labels(seen: Examination) -> Found:
    """The same content under different labels."""
    labels: dict[str, set[tuple[str, ...]]] = {}
    files: dict[str, list[Path]] = {}
    for images in seen.sound().values():
        for image in images:
            content = seen.facts[image.path].sha256
            labels.setdefault(content, set()).add(tuple(sorted(image.labels)))
            files.setdefault(content, []).append(image.path)
    groups = [files[content] for content, said in labels.items() if len(said) > 1]
    if groups:
        shown = _shown(seen, groups)
        message = f"{counted(groups, 'image')} under different labels: {shown}: leave it where it is right"
        yield file_problem("conflicting_labels", "warning", message, _all(seen, groups))


def duplicate(seen: Examination) -> Found:
    """The same content with the same labels twice in a split."""
    files: dict[object, list[Path]] = {}
    for split, images in seen.sound().items():
        for image in images:
            key = (split, seen.facts[image.path].sha256, tuple(sorted(image.labels)))
            files.setdefault(key, []).append(image.path)
    groups = [group for group in files.values() if len(group) > 1]
    if groups:
        shown = _shown(seen, groups)
        message = f"{counted(groups, 'image')} more than once in a split: {shown}: leave one of each"
        if "val" not in seen.listing.images:
            message += "; where a part is held out for validation, a copy may stand on both sides"
        yield file_problem("duplicate", "warning", message, _all(seen, groups))


def _shown(seen: Examination, groups: Sequence[Sequence[Path]]) -> str:
    return first_of([" is ".join(seen.name(path) for path in group[:2]) for group in groups])


def _all(seen: Examination, groups: Sequence[Sequence[Path]]) -> list[str]:
    return [seen.name(path) for group in groups for path in group]


def tiny_class(seen: Examination) -> Found:
    """Classes that hardly anything can be learnt of."""
    tiny = {name: n for name, n in sound_counts(seen)["train"].items() if 0 < n < TINY}
    if tiny:
        shown = first_of([f"{name!r} has {n}" for name, n in sorted(tiny.items(), key=lambda item: item[1])])
        message = f"{counted(tiny, 'class')} of fewer than {TINY} images to train on: {shown}: add some"
        yield DataProblem("tiny_class", "warning", message, count=len(tiny))


def unbalanced(seen: Examination) -> Found:
    """Classes of very different sizes."""
    train = {name: n for name, n in sound_counts(seen)["train"].items() if n}
    if not train:
        return
    most, least = max(train, key=train.__getitem__), min(train, key=train.__getitem__)
    if train[most] >= UNBALANCED * train[least]:
        few = [name for name, n in train.items() if n * UNBALANCED <= train[most]]
        message = (
            f"{most!r} has {train[most]} images to train on and {least!r} has {train[least]}: "
            'class_weights "balanced" or the sampler "balanced" makes up for it'
        )
        yield DataProblem("unbalanced", "warning", message, count=len(few))


def label_order(seen: Examination) -> Found:
    """Numbers that are sorted as text: 1, 10, 2."""
    classes = seen.listing.classes
    if not all(name.isascii() and name.isdigit() for name in classes):
        return
    moved = [i for i, name in enumerate(sorted(classes, key=int)) if name != classes[i]]
    if moved:
        first = moved[0]
        message = (
            f"class names are numbers and are sorted as text: output {first} is class {classes[first]!r}; "
            "write them with leading zeros, or go by the checkpoint's list of classes"
        )
        yield DataProblem("label_order", "warning", message, count=len(moved))


def similar_classes(seen: Examination) -> Found:
    """Class names that differ by case or blanks alone."""
    alike: dict[str, list[str]] = {}
    for name in seen.listing.classes:
        alike.setdefault(" ".join(name.casefold().split()), []).append(name)
    groups = [group for group in alike.values() if len(group) > 1]
    if groups:
        shown = first_of([" and ".join(map(repr, group)) for group in groups])
        message = f"class names that differ by case or blanks alone: {shown}: make one of them"
        yield DataProblem("similar_classes", "warning", message, count=sum(map(len, groups)))


RULES: tuple[Rule, ...] = (
    layout,
    class_missing,
    unreadable,
    not_an_image,
    leak,
    placeholder,
    conflicting_labels,
    duplicate,
    tiny_class,
    unbalanced,
    label_order,
    similar_classes,
)


def judge(seen: Examination, rules: Iterable[Rule] = RULES) -> tuple[DataProblem, ...]:
    """All problems, those that keep the dataset from being trained on first."""
    found = [problem for rule in rules for problem in rule(seen)]
    return tuple(sorted(found, key=lambda problem: problem.severity))


def sound_counts(seen: Examination) -> Counts:
    """Sound images by split and class."""
    return {split: count_labels(images) for split, images in seen.sound().items()}
