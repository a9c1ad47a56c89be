"""Frozen encoders: opened from a run, given what people have, written to one file, exported and read again."""
