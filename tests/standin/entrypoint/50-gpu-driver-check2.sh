if ! command -v nvidia-smi >/dev/null; then
  echo "WARNING: The NVIDIA Driver was not detected.  GPU functionality will not be available."
  echo
fi
