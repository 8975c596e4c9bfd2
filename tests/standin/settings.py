"""What the image's config says, as the official 24.05 has it.

From `tritonserver:24.05-py3-min` and server:r24.05:build.py (dockerfile_prepare_container_linux,
create_dockerfile_linux). Versions are those of NVIDIA's support matrix for 24.05.
"""

from __future__ import annotations

RELEASE, TRITON, BUILD = "24.05", "2.46.0", "94405276"
DCGM = "3.2.6"
_VERSIONS = {
    "NCCL": "2.21.5",
    "CUBLAS": "12.4.5.8",
    "CUFFT": "11.2.1.3",
    "CURAND": "10.3.5.147",
    "CUSPARSE": "12.3.1.170",
    "CUSOLVER": "11.6.1.9",
    "CUTENSOR": "2.0.1.2",
    "NPP": "12.2.5.30",
    "NVJPEG": "12.3.1.117",
    "CUDNN": "9.1.0.70",
    "TRT": "10.0.1.6",
    "NSIGHT_SYSTEMS": "2024.2.1.106",
    "NSIGHT_COMPUTE": "2024.1.1.4",
}

ENVIRONMENT = {
    "PATH": "/opt/tritonserver/bin:/usr/local/mpi/bin:/usr/local/nvidia/bin:/usr/local/cuda/bin:"
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/ucx/bin",
    "CUDA_VERSION": "12.4.1.003",
    "CUDA_DRIVER_VERSION": "550.54.15",
    "_CUDA_COMPAT_PATH": "/usr/local/cuda/compat",
    # Shells read these files at their start: taken over without the files, they complain.
    "ENV": "/etc/shinit_v2",
    "BASH_ENV": "/etc/bash.bashrc",
    "SHELL": "/bin/bash",
    "NVIDIA_REQUIRE_CUDA": "cuda>=9.0",
    **{f"{name}_VERSION": version for name, version in _VERSIONS.items()},
    # Upstream puts HPC-X before ONNX Runtime's folder, and that before what the base image has.
    "LD_LIBRARY_PATH": "/opt/hpcx/ucc/lib/:/opt/hpcx/ucx/lib/:"
    "/opt/tritonserver/backends/onnxruntime:/usr/local/cuda/compat/lib:/usr/local/nvidia/lib:"
    "/usr/local/nvidia/lib64",
    "NVIDIA_VISIBLE_DEVICES": "all",
    "NVIDIA_DRIVER_CAPABILITIES": "compute,utility,video",
    "LIBRARY_PATH": "/usr/local/cuda/lib64/stubs:",
    "TRITON_SERVER_VERSION": TRITON,
    "NVIDIA_TRITON_SERVER_VERSION": RELEASE,
    "UCX_MEM_EVENTS": "no",
    "TF_ADJUST_HUE_FUSED": "1",
    "TF_ADJUST_SATURATION_FUSED": "1",
    "TF_ENABLE_WINOGRAD_NONFUSED": "1",
    "TF_AUTOTUNE_THRESHOLD": "2",
    "TRITON_SERVER_GPU_ENABLED": "1",
    "TRITON_SERVER_USER": "triton-server",
    "DEBIAN_FRONTEND": "noninteractive",
    "TCMALLOC_RELEASE_RATE": "200",
    "DCGM_VERSION": DCGM,
    # With the empty part at its end that `$PYTHONPATH` unset leaves.
    "PYTHONPATH": "/opt/tritonserver/backends/dali/wheel/dali:",
    "NVIDIA_PRODUCT_NAME": "Triton Server",
    "NVIDIA_BUILD_ID": BUILD,
}

LABELS = {
    # Inherited from ubuntu; the image is not an ubuntu of that name.
    "org.opencontainers.image.ref.name": "ubuntu",
    "org.opencontainers.image.version": "22.04",
    "maintainer": "NVIDIA CORPORATION",
    "com.nvidia.volumes.needed": "nvidia_driver",
    "com.nvidia.cuda.version": "9.0",
    **{f"com.nvidia.{name.lower()}.version": version for name, version in _VERSIONS.items()},
    "com.nvidia.tritonserver.version": TRITON,
    "com.nvidia.build.id": BUILD,
    "com.nvidia.build.ref": "a5d1d3e2b0f24c1f9a70d1e3e1c4f1b7c3d2a690",
    "com.amazonaws.sagemaker.capabilities.accept-bind-to-port": "true",
    "com.amazonaws.sagemaker.capabilities.multi-models": "true",
}

FULL = {
    "Env": [f"{key}={value}" for key, value in ENVIRONMENT.items()],
    "Entrypoint": ["/opt/nvidia/nvidia_entrypoint.sh"],
    "WorkingDir": "/opt/tritonserver",
    "Labels": LABELS,
    "ArgsEscaped": True,
}
BASE = {
    "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
    "Cmd": ["/bin/bash"],
    "Labels": {
        "org.opencontainers.image.ref.name": "ubuntu",
        "org.opencontainers.image.version": "22.04",
    },
}

_ARGS = f"|2 TRITON_VERSION={TRITON} TRITON_CONTAINER_VERSION={RELEASE} /bin/sh -c"
# What made each layer, in order; True: a layer, False: a change of the config alone.
BASE_HISTORY = [
    ("/bin/sh -c #(nop) ADD file:89847d76d242dea90d1aa2cb0bf85ddaa5ec1f5a2b7e0e4c in / ", True),
]
FULL_HISTORY = [
    ("/bin/sh -c #(nop)  ARG RELEASE", False),
    *BASE_HISTORY,
    ('/bin/sh -c #(nop)  CMD ["/bin/bash"]', False),
    ("ENV CUDA_VERSION=12.4.1.003 CUDA_DRIVER_VERSION=550.54.15", False),
    ("RUN /bin/sh -c /nvidia/build-scripts/installCUDA.sh # buildkit", True),
    ("RUN /bin/sh -c /nvidia/build-scripts/installLIBS.sh && installTRT.sh # buildkit", True),
    ("COPY nvidia_entrypoint.sh entrypoint.d/ /opt/nvidia/ # buildkit", True),
    ("LABEL com.nvidia.volumes.needed=nvidia_driver com.nvidia.cuda.version=9.0", False),
    ('ENTRYPOINT ["/opt/nvidia/nvidia_entrypoint.sh"]', False),
    (f"ENV NVIDIA_TRITON_SERVER_VERSION={RELEASE}", False),
    (f"RUN {_ARGS} userdel tensorrt-server || true && useradd triton-server # buildkit", True),
    (
        f"RUN {_ARGS} apt-get update && apt-get install -y --no-install-recommends … # buildkit",
        True,
    ),
    (f"ENV DCGM_VERSION={DCGM}", False),
    (f"RUN {_ARGS} apt-get install -y datacenter-gpu-manager=1:{DCGM} # buildkit", True),
    (
        f"RUN {_ARGS} ln -sf ${{_CUDA_COMPAT_PATH}}/lib.real … && ldconfig && rm -f … # buildkit",
        True,
    ),
    (f"RUN {_ARGS} apt-get install … && pip3 install --upgrade … # buildkit", True),
    ("WORKDIR /opt/tritonserver", False),
    (f"RUN {_ARGS} rm -fr /opt/tritonserver/* # buildkit", True),
    ("COPY docker/entrypoint.d/ /opt/nvidia/entrypoint.d/ # buildkit", True),
    (f"LABEL com.nvidia.build.id={BUILD}", False),
    ("COPY --chown=1000:1000 build/install tritonserver # buildkit", True),
    ("COPY --chown=1000:1000 NVIDIA_Deep_Learning_Container_License.pdf . # buildkit", True),
    ("COPY --chown=1000:1000 docker/sagemaker/serve /usr/bin/. # buildkit", True),
]
