"""The line of every key, in every layout TOML allows."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stagewise.pipeline.source import KeyPath, locate, show_key, split_key

LAYOUTS = '''\
top = 1                     # 1
"quoted key" = 2            # 2
'literal.key' = 3
dotted.inner."a.b" = 4
  dotted . other = 5
inline = { a = 1, b = { c = 2 } }
array = [                   # 7: brackets in a comment ]]
  "]", '[', # "
  [1, 2],
  { d = "}" },
]
after_array = 12
text = """
[not.a.table]
key = "no"
""\\""" "
"""
after_text = 18
raw = \'\'\'
x = 1 \'\' " [[
\'\'\'\'\'
after_raw = 22

[ table ]
a = 25
[table.sub."x y"]
b = 27
[[list]]
a = 29
[list.inner]
b = 31
  [[list.deeper]]
  c = 33
  [[list.deeper]]
  c = 35
[[ list ]] # a comment
a = 37
date = 2024-01-31T10:00:00Z
"key = with [things] # inside" = "= # ["
[list.inner.most]
d = 41'''

EXPECTED: dict[KeyPath, int] = {
    ("top",): 1,
    ("quoted key",): 2,
    ("literal.key",): 3,
    ("dotted",): 4,
    ("dotted", "inner", "a.b"): 4,
    ("dotted", "other"): 5,
    ("inline",): 6,
    ("array",): 7,
    ("after_array",): 12,
    ("text",): 13,
    ("after_text",): 18,
    ("raw",): 19,
    ("after_raw",): 22,
    ("table",): 24,
    ("table", "a"): 25,
    ("table", "sub"): 26,
    ("table", "sub", "x y"): 26,
    ("table", "sub", "x y", "b"): 27,
    ("list",): 28,
    ("list", 0): 28,
    ("list", 0, "a"): 29,
    ("list", 0, "inner"): 30,
    ("list", 0, "inner", "b"): 31,
    ("list", 0, "deeper", 0): 32,
    ("list", 0, "deeper", 0, "c"): 33,
    ("list", 0, "deeper", 1): 34,
    ("list", 0, "deeper", 1, "c"): 35,
    ("list", 1): 36,
    ("list", 1, "a"): 37,
    ("list", 1, "date"): 38,
    ("list", 1, "key = with [things] # inside"): 39,
    ("list", 1, "inner", "most"): 40,
    ("list", 1, "inner", "most", "d"): 41,
}


def test_every_layout() -> None:
    tomllib.loads(LAYOUTS)  # it is TOML
    lines = locate(LAYOUTS)
    assert {path: lines.get(path) for path in EXPECTED} == EXPECTED
    assert set(lines) - set(EXPECTED) == {
        (),
        ("dotted", "inner"),
        ("list", 0, "deeper"),
        ("list", 1, "inner"),
    }


def test_every_located_path_is_in_the_parsed_file() -> None:
    tree = tomllib.loads(LAYOUTS)
    for path in locate(LAYOUTS):
        node: Any = tree
        for step in path:
            node = node[step]


def test_a_table_opened_before_its_parent_has_its_own_line() -> None:
    assert locate("[a.b]\nx = 1\n[a]\ny = 1\n")[("a",)] == 3


KEYS = st.sampled_from(["a", "b-1", "'c.d'", '"e\\u00e9"', '"#"', "9"])
VALUES = st.sampled_from(
    [
        "1",
        '"x"',
        '"[#\\""',
        "'\\'",
        "[1,\n 2]",
        '["]",\n# ]"\n]',
        '"""\na = 1\n"""',
        "{ a = 1 }",
        "[{ a = [\n] }]",
    ]
)
GAPS = st.sampled_from(["", "\n", "# [x]\n", "  # a = 1\n\n"])


@given(st.lists(st.tuples(GAPS, st.sampled_from(["table", "item", "key"]), KEYS, VALUES), max_size=12))
def test_generated_layouts(parts: list[tuple[str, str, str, str]]) -> None:
    """Headers get a number, so that none is opened twice; the line is counted while the text is written."""
    text, items = "", 0
    table: KeyPath = ()
    expected: dict[KeyPath, int] = {}
    for number, (gap, kind, key, value) in enumerate(parts):
        text += gap
        line = text.count("\n") + 1
        name = split_key(key)[0]
        if kind == "table":
            text += f"[t{number}.{key}]\n"
            table = (f"t{number}", name)
            expected[table] = line
        elif kind == "item":
            text += f"[[items]]\nsub{number}.{key} = {value} # end\n"
            table = ("items", items)
            items += 1
            expected[table] = line
            expected[(*table, f"sub{number}", name)] = line + 1
        else:
            text += f"k{number}.{key}={value}\n"
            expected[(*table, f"k{number}", name)] = line
    tomllib.loads(text)
    lines = locate(text)
    assert {path: lines.get(path) for path in expected} == expected


@given(st.text(alphabet="ab=.[]{}\"'#\n \\1", max_size=60))
def test_any_text_is_scanned_without_a_crash(text: str) -> None:
    locate(text)


@pytest.mark.parametrize(
    ("key", "parts"),
    [
        ("a", ("a",)),
        ("a.b-c.1", ("a", "b-c", "1")),
        ('a . "b.c"', ("a", "b.c")),
        ("'x y'.z", ("x y", "z")),
        ('"\\t"', ("\t",)),
    ],
)
def test_keys_are_split_as_toml_splits_them(key: str, parts: tuple[str, ...]) -> None:
    assert split_key(key) == parts


@pytest.mark.parametrize("key", ["", "a b", "a..b", ".a", "a.", "a = 1\nb", '"a', '"\\q"', "é"])
def test_what_is_no_key_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match=re.escape("is not a key") + r"|Unescaped|Invalid"):
        split_key(key)


def test_keys_are_shown_as_they_are_typed() -> None:
    tree = {"stage": [{"name": "conv1"}, {"name": "a.b"}, {"name": 3}, {}]}
    assert show_key(("stage", 0, "train"), tree) == "stage.conv1.train"
    assert show_key(("stage", 1), tree) == 'stage."a.b"'
    assert show_key(("stage", 2), tree) == "stage.3"
    assert show_key(("stage", 3, "x y"), tree) == 'stage.4."x y"'
    assert show_key(("a\x1b[31m",), tree) == '"a\\x1b[31m"'
