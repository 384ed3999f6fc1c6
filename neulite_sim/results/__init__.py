"""Rows, provenance, digests and the run folder."""
