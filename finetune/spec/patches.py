"""Patches of a spec: JSON merge patches (RFC 7396) that know what a spec's fields mean to each other."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from finetune.spec.problems import Problem

TAGS = ("name", "policy")
"""The fields that say which of several kinds an object is."""
NOT_OF_A_VARIANT = {
    "seed": "the experiment's seeds set it",
    "name": "the experiment names its jobs after the variants",
    "metadata": "it belongs to all variants alike: give it in the spec",
    "priority": "it belongs to all variants alike: give it in the spec",
    "max_attempts": "it belongs to all variants alike: give it in the spec",
    "range_test": "an experiment compares runs that train",
}
"""Fields of a spec that say nothing of how a network is trained, and why a patch must not set them."""


def merge(target: Any, patch: Any) -> Any:
    """A document with a merge patch applied: objects merge, null takes a field away, the rest replaces.

    Beyond RFC 7396: where a patch's `name` or `policy` differs from the target's, the two are different kinds
    of object, and the patch replaces the target instead of merging with fields that it does not have.
    Neither argument is changed.
    """
    if not isinstance(patch, dict):
        return deepcopy(patch)
    kept = target if isinstance(target, dict) and not _other_kind(target, patch) else {}
    merged = deepcopy({key: value for key, value in kept.items() if key not in patch})
    return merged | {key: merge(kept.get(key), value) for key, value in patch.items() if value is not None}


def apply_patch(spec: Any, patch: dict[str, Any]) -> Any:
    """A job spec with a variant's patch applied.

    `merge`, and two things that a spec means: a recipe stands instead of stages, so that a patch with the one
    takes the other away; and the weights null are random ones, not the default of an absent field.
    """
    dropped = {"recipe": "stages", "stages": "recipe"}
    kept = spec
    if isinstance(spec, dict):
        gone = {dropped[key] for key in dropped if patch.get(key) is not None}
        kept = {key: value for key, value in spec.items() if key not in gone}
    patched = merge(kept, patch)
    backbone = patch.get("backbone")
    if isinstance(backbone, dict) and "weights" in backbone and backbone["weights"] is None:
        patched["backbone"]["weights"] = None
    return patched


def patch_problems(patch: Any) -> Iterator[Problem]:
    """What no variant's patch may be or set, whatever the spec; each with the field's path in the patch."""
    if not isinstance(patch, dict):
        yield Problem(None, "a patch is a JSON object with the fields of the spec to change", "not_a_patch")
        return
    for field, reason in NOT_OF_A_VARIANT.items():
        if field in patch:
            yield Problem(field, f"a variant cannot change it; {reason}", "not_of_a_variant")


def sets(patch: Any, param: str | None) -> bool:
    """Whether a patch says something of the field with this path (`recipe.epochs`), or of a part of it."""
    for part in (param or "").split("."):
        if not isinstance(patch, dict):
            return True
        if part not in patch:
            return False
        patch = patch[part]
    return True


def _other_kind(target: dict[str, Any], patch: dict[str, Any]) -> bool:
    return any(tag in target and tag in patch and target[tag] != patch[tag] for tag in TAGS)
