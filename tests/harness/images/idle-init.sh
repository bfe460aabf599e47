#!/bin/busybox sh
# The first process of a system that does nothing.
echo "idle: the first process runs"
while :; do /bin/busybox sleep 3600; done
