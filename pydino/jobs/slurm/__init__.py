"""Jobs on a Slurm cluster: configuration, submission, waiting, and how they ended."""
