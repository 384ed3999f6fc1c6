"""Datasets behind one small interface, and how their samples are dealt to devices."""
