"""Fan-out of one session's events: numbering, the replay ring, subscribers.

STUB of the interface; see the module's owner.
"""
