#!/bin/bash
# Stand-in: the official part says so, too, when /dev/shm is as small as Docker makes it.
size="$(df -k /dev/shm 2>/dev/null | awk 'NR == 2 { print $2 }')"
if [[ "${size:-0}" -le 65536 ]]; then
  echo
  echo "NOTE: The SHMEM allocation limit is set to the default of 64MB.  This may be insufficient"
  echo "   for the inference server.  Recommended: docker run --shm-size=1g ..."
fi
