"""Every decision: admission, selection, draft length, layout, rounds. Needs neither torch nor simpy; both engines run it."""
