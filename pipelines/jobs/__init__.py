"""Parallel work: executors of this machine and of Dask, batch systems, long jobs in chunks that survive a kill."""
