"""Pictures of what happens: the tape, gradients over time."""
