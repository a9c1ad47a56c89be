"""What a pipeline trains on: ordered items, each with a key, an array and labels.

`base` says what a data set is. Nothing heavy is imported here: a class is looked up, and torch loaded, only when a
pipeline names it.
"""

from stagewise.registry import DATASETS as SHORT_NAMES

__all__ = ["SHORT_NAMES"]
