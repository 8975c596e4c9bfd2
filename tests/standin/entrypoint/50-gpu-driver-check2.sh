#!/bin/bash
# Stand-in: looks for the driver, as the official part does.
if [[ "${NVIDIA_CPU_ONLY:-0}" == "1" ]]; then
  export TRITON_SERVER_CPU_ONLY=1
elif [[ ! -e /dev/nvidiactl || ! -x "$(command -v nvidia-smi)" ]]; then
  echo
  echo "WARNING: The NVIDIA Driver was not detected.  GPU functionality will not be available."
  echo "   Use the NVIDIA Container Toolkit to start this container with GPU support; see"
  echo "   https://docs.nvidia.com/datacenter/cloud-native/ ."
  export TRITON_SERVER_CPU_ONLY=1
fi
