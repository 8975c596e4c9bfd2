#!/bin/bash
# Stand-in: compares the network driver with the library that the package database names.
if [[ "$(readlink -f /sys/class/infiniband_verbs/uverbs0/device/driver 2>/dev/null)" == */mlx5_core ]]; then
  driver="$(cat /sys/module/mlx5_core/version 2>/dev/null)"
  library="$(dpkg -s libibverbs1 2>/dev/null | sed -n 's/^Version: //p')"
  echo
  echo "NOTE: Mellanox network driver detected, version ${driver:-unknown} (library: ${library:-none})."
fi
