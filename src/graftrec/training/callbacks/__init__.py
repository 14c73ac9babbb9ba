"""What Lightning calls while it trains: progress, checkpoints, heartbeat, pruning, cost."""
