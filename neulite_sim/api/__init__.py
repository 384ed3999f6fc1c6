"""The public functions: what commands print, as objects. Commands are thin shells around them.

Nothing here prints, but for progress where it is asked for; nothing heavy is imported before it is used.
"""
