"""Everything needed to repeat a run: the frozen schema, and loading it from YAML."""
