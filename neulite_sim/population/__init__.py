"""The fleet: a table of columns, a catalogue of hardware, memory, availability and links."""
