"""One file a stopping rule: `build(settings)` gives a function of all validation losses so far: stop now?"""
