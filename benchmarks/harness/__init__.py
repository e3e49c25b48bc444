"""What the benchmark scripts share. Standard library only, except :mod:`harness.kmeans`."""
