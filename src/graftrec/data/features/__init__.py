"""What is made of columns before they are fed: histories, counts, attributes, statistics."""
