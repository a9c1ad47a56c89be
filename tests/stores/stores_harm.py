"""Harming a store in tests, and what reading it must then say."""

from __future__ import annotations

import json

import pytest

from stagewise.errors import IntegrityError
from stagewise.stores import StoreReader, verify_store

ADVICE = "Type `stagewise stage NAME` to encode it again; `stagewise verify` reads everything."


def shard_path(store, shard=1):
    return store.folder / "store.zarr" / store.manifest.shards[shard].path


def read_all(folder):
    with StoreReader(folder) as reader:
        for item in range(len(reader)):
            reader[item]


def refused(folder, path, *words):
    """Reading must fail and verify must tell; both with path, advice and the given words."""
    with pytest.raises(IntegrityError) as caught:
        read_all(folder)
    message = str(caught.value)
    problems = verify_store(folder)
    assert problems
    for text in (message, problems[0]):
        assert str(path) in text
        assert ADVICE in text
        for word in words:
            assert word in text
    return message


def lie(folder, change):
    path = folder / "store.manifest.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
