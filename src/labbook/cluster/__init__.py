"""Stages on the machines of a cluster: submitit gives them to Slurm, results come and go by the remote; docs/cluster.md."""
