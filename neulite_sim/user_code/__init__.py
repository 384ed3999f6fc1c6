"""Code and data of a user's own, given from Python or in a file beside the scenario."""
