"""The run directory: its layout, its lock, the commit record of every stage, and reading it back."""
