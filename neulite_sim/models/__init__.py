"""Models as ordered stacks of blocks, one file per architecture."""
