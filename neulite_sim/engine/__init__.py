"""Assembly of a scenario into live objects, and the loop that runs them."""
