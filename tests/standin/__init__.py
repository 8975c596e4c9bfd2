"""A stand-in of the official 24.05 image, on NVIDIA's real binaries, and of the base below it.

build.py makes both as OCI layouts:
    system.py     real Debian: debootstrap, then apt, dpkg, useradd, ldconfig and pip in a chroot
    wheels.py     NVIDIA's and Microsoft's binaries, out of wheels on PyPI
    lower.py      the layers below the server: CUDA, TensorRT, DCGM, entry point
    server.py     /opt/tritonserver, its ONNX Runtime backend served by onnxruntime_model.py
    settings.py   environment, labels and history as the official image has them
    ballast.py    bytes for what cannot be had
    tars.py, blobs.py, images.py   tars, layers and manifests, written by hand: no Engine needed
services.py runs a registry and an Engine for tests; ``python -m tests.standin`` is the command.
"""
