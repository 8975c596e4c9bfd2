size=$(df -k /dev/shm 2>/dev/null | awk 'NR == 2 { print $2 }')
if [ "${size:-0}" -le 65536 ]; then
  echo "NOTE: The SHMEM allocation limit is set to the default of 64MB.  Use --shm-size=1g."
  echo
fi
