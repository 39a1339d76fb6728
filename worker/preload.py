"""What the fork server loads, once, so that no attempt has to. Nothing else imports it."""

import atexit
import gc
import multiprocessing.popen_fork
import multiprocessing.queues
import multiprocessing.synchronize  # noqa: F401  # three that data workers are started with

import torch.utils.serialization.config  # noqa: F401  # loaded by the first checkpoint else
from PIL import Image

import finetune.objectives.triplet  # noqa: F401  # loaded by jobs that need it else
import worker.attempt  # and with it torch and torchvision
import worker.engine  # noqa: F401  # where an attempt begins

Image.init()  # all readers: Pillow loads them when it first opens an image that it does not know

# What is loaded stays, and attempts need not search it for garbage. The first search of each would take
# a quarter of a second, and would write to, and so copy, every page that they share with the fork server.
gc.collect()
gc.freeze()
atexit.register(gc.unfreeze)  # the end of the fork server cleans up as that of any other process
