"""How the pocket suite is made: a small world, a base that learns it, diffs of it, and adapters that read them.

Used by the command line and the notebooks only; nothing below imports it.
"""
