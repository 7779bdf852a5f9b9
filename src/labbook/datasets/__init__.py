"""One module a dataset: where it comes from, how it becomes arrays. What comes out is a `labbook.packed.Packed`.

A dataset's module offers `fetch(source, folder)` and `prepare(folder, source, validation_fraction, seed)`.
"""
