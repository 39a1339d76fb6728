"""What the fork server loads before all else. Nothing else imports it."""

from finetune.heap import use_one_heap

use_one_heap()  # before libraries are loaded that start threads, whose heaps an attempt would inherit
