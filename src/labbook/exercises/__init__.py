"""What the assignments ask to be worked out by hand: the functions, the exercises, and the page that shows the working."""
