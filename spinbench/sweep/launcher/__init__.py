"""Ways to start a sweep's workers: here, in processes, under Slurm, on Ray."""
