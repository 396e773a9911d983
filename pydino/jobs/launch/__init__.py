"""The processes of a distributed training: on one machine, and on every node of a Slurm job."""
