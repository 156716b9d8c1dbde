"""What is done to the weights so that rounding them costs less."""
