"""What is measured outside and read in: the project's own trace files, and importers of others'."""
