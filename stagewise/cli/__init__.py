"""The command line: one verb a command; results go to stdout, progress to stderr."""
