"""Run stages as Slurm jobs through submitit, and exchange results through the DVC remote. See docs/cluster.md."""
