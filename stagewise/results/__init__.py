"""What came of runs: the report of one or several in pictures, and runs beside each other and what was published."""
