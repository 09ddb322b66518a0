"""Data: sets of examples, the order in which they are drawn, batches, and what is done to them on the way."""
