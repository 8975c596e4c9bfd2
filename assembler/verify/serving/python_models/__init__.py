"""Sources of the Python models; each is copied into the repository as ``1/model.py``.

Only the standard library, numpy and Triton's own module may be imported here: the files run
inside the image under test, where nothing of this package exists.
"""
