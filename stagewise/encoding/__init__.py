"""A frozen stage over the whole data set: streamed in pieces, and written to its store."""
