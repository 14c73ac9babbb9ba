"""What knows no recommender."""
