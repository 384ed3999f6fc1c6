"""What kinds of hardware there are, with the source of every number."""
