"""What a GPU is asked for, in one command; every part of it runs in miniature without one."""
