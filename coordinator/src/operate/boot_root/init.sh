#!/bin/busybox sh
# The first process of a boot root in memory: brings up devices and network, then keeps the agent running.
# What it says begins with `piseduce: ` and goes to the console.
export PATH=/bin NO_COLOR=1
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp

say() {
    echo "piseduce: $* at $(cut -d ' ' -f 1 /proc/uptime) s"
}

# Loads what the devices that are there ask for.
plug() {
    cat /sys/bus/*/devices/*/modalias 2>/dev/null | sort -u | xargs modprobe -abq 2>/dev/null
}

interface() {
    for candidate in /sys/class/net/*; do
        candidate=${candidate##*/}
        [ "$candidate" = lo ] || { echo "$candidate"; return; }
    done
}

say "boot root started"
plug
# Devices behind a bus whose driver was just loaded; those on USB come later still, and are waited for.
plug
ip link set lo up
waited=0
until eth=$(interface) && [ -n "$eth" ]; do
    [ $((waited % 50)) -ne 49 ] || say "no network interface yet: its driver is missing in this boot root, or it is broken"
    waited=$((waited + 1))
    usleep 100000
    plug
done
ip link set "$eth" up
until udhcpc -q -n -f -i "$eth" -t 10 -T 1 -s /etc/udhcpc.sh >/run/udhcpc.log 2>&1; do
    say "no address by DHCP on $eth: asking again"
    usleep 500000
done
say "network up, $(cat /run/address) on $eth"

waited=0
until [ -b /dev/mmcblk0 ] || [ $waited -eq 50 ]; do
    waited=$((waited + 1))
    usleep 100000
    plug
done
[ -b /dev/mmcblk0 ] || say "no card yet: the agent looks for it again with each command"

while :; do
    piseduce-agent --set-clock
    code=$?
    say "the agent ended with exit code $code; it is started again"
    # 2: the command line is for another node, which waiting does not change; the coordinator cuts the power.
    [ $code -ne 2 ] || sleep 60
    sleep 5
done
