"""Where the numbers of a training go: metrics.csv and Weights & Biases."""
