#!/bin/sh
# The first process of the user-mode-linux guest of test_nodecache_uml.py. WORK_DIR and PYTHON come
# from the kernel's command line; the root is the host's, so nothing outside of WORK_DIR is written.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs run /run
ip link set lo up
"$PYTHON" "$WORK_DIR/uml_guest.py" "$WORK_DIR" >"$WORK_DIR/guest.log" 2>&1
echo o >/proc/sysrq-trigger
sleep 60
