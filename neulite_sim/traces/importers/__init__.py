"""Importers: foreign trace files turned into the project's own tables."""
