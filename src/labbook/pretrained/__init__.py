"""One module a network whose published weights experiments may start from.

It offers `fetch(folder)`, which puts the published file there, and `read(folder)`, which gives its weights by the names of
our model's state, without the head.
"""
