"""`spinbench record`: the stages of a recording."""
