if [ -n "$AIP_MODE" ]; then
  set -- tritonserver "$@"
fi
