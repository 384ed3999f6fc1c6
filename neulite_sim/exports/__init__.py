"""Runs in the files and stores of other tools: the same rows, under the words of the field, without a network."""
