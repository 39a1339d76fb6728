"""What can be trained: networks by name, where their heads are, their blocks, and their weights."""

from finetune.backbones.registry import Registry, load
from finetune.backbones.row import Backbone, backbone
from finetune.backbones.skeleton import check_image_size, parameter_count, skeleton

__all__ = ["Backbone", "Registry", "backbone", "check_image_size", "load", "parameter_count", "skeleton"]
