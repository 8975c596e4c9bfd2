if [ -e /sys/module/mlx5_core/version ] && ! dpkg -s mlnx-ofed >/dev/null 2>&1; then
  echo "NOTE: network driver detected, version $(cat /sys/module/mlx5_core/version)"
fi
