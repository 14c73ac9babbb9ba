"""Transfer strategies: lists of phases; one file each."""
