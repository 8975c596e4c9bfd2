#!/bin/bash
# Stand-in: under Vertex AI the arguments are those of the server alone. Sourced with no arguments
# of its own, so this sets those of the entry point.
if [[ -n "$AIP_MODE" ]]; then
  set -- /opt/tritonserver/bin/tritonserver "$@"
fi
