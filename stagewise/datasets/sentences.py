"""Sentences for synthetic speech, made from a small grammar: the same ones for the same seed, for ever."""

from __future__ import annotations

import hashlib

_PEOPLE = (
    "the old sailor|a young doctor|my neighbour|the baker|her cousin|a tired farmer|the teacher|our guide|"
    "the quiet boy|a clever judge|the shepherd|his uncle|the painter|a thirsty horse|the eldest|their nurse"
)
_VERBS = (
    "carried|found|measured|bought|painted|forgot|opened|washed|followed|noticed|pushed|borrowed|hid|chose|"
    "showed|threw away"
)
_THINGS = (
    "a copper kettle|the heavy box|three yellow apples|an empty jar|the wooden bridge|a bunch of keys|"
    "the last chapter|a pair of boots|the church bell|some warm bread|a thick blanket|the garden fence|"
    "four small stones|an ancient map|the broken wheel|a jug of water"
)
_PLACES = (
    "near the harbour|behind the school|under the oak tree|across the valley|by the fireplace|in the market|"
    "on the northern road|beside the river|at the edge of the wood|inside the tower|along the beach|"
    "above the village"
)
_TIMES = (
    "before sunrise|on Thursday|last winter|after the storm|for an hour|every evening|without a word|"
    "as usual|with great pleasure|in the afternoon|during lunch|just in time"
)
_SLOTS = [choices.split("|") for choices in (_PEOPLE, _VERBS, _THINGS, _PLACES, _TIMES)]


def sentence(seed: int, voice: int, number: int) -> str:
    """Return one sentence, a pure function of its arguments: who did what to which thing, where, and when."""
    words = []
    for slot, choices in enumerate(_SLOTS):
        # A hash rather than `random`, whose choices may change with the version of Python.
        digest = hashlib.sha256(f"{seed} {voice} {number} {slot}".encode()).digest()
        words.append(choices[int.from_bytes(digest[:8], "big") % len(choices)])
    return f"{' '.join(words[:-1])}, {words[-1]}.".capitalize()
