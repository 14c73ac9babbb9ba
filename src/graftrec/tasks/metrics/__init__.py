"""Metrics of rankings and of pointwise predictions, exact under ties and honest about what is undefined."""
