"""Seeds: the same parts give the same one, any other parts another."""

import hashlib
from itertools import product

from stagewise.seeds import derive_seed


def test_the_seed_is_a_pure_function():
    assert derive_seed(0, "conv1", "epoch", 3) == derive_seed(0, "conv1", "epoch", 3)
    digest = hashlib.sha256(b"int:0\x1fstr:conv1\x1fstr:init").hexdigest()
    assert derive_seed(0, "conv1", "init") == int(digest[:16], 16) // 2  # the same in every version


def test_other_parts_give_other_seeds():
    parts = [*product(range(20), ("conv1", "conv2", "1"), range(20)), (1,), ("1",), (1, 1), ("1", "1"), (11,), ()]
    seeds = {derive_seed(*p) for p in parts}
    assert len(seeds) == len(parts)
    assert all(0 <= seed < 1 << 63 for seed in seeds)
    assert any(seed >> 62 for seed in seeds)
