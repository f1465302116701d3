"""What `benchmarks.learner` is made of."""
