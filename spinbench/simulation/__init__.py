"""The simulator's body: the same jobs and the same loop as on the runtime, with predicted durations. Free of torch."""
