"""Runs beside each other, and beside what others published: rows are systems, columns are probes."""
