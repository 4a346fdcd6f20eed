"""Sessions: their state machine, their task, their journal, and what runs them."""
