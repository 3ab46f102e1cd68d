"""Every decision: admission, selection, draft length, layout, rounds. Free of torch and simpy; both engines run it."""
