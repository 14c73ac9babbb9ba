"""The network: encoder, layers, trunks, heads and interactions."""
