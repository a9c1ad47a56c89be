"""Representations of any files with what a run has trained: read as its data was, streamed, written to one file."""
