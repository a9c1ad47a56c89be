"""Frozen stages in a folder that needs no run: weights, settings, a program, a model card; and read again."""
