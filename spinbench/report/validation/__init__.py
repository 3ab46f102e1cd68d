"""How far the simulator is from what was measured."""
