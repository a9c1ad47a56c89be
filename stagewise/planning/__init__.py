"""What would run and why, what it costs in memory and disk, and what is decided for each stage."""
