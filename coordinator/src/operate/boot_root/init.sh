#!/bin/busybox sh
# The first process of a boot root: brings up devices and network, fetches the rest if that is on NFS, then keeps the agent running.
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

# The settings that a bootloader leaves in memory, which Debian's kernel has no driver for: as far as the first empty word.
bootloader_settings() {
    node=/proc/device-tree$(tr -d '\0' </proc/device-tree/aliases/blconfig) || return
    [ -f "$node/reg" ] || return
    cells=$(xxd -p "$node/reg" | tr -d '\n')
    address=$((0x$(echo "$cells" | cut -c 1-16))) end=$((0x$(echo "$cells" | cut -c 17-)))
    [ "$address" -ne 0 ] || return
    [ "$end" -le 4096 ] || end=4096
    end=$((address + end))
    while [ "$address" -lt "$end" ]; do
        word=$(devmem "$address" 32) || return
        [ "$word" != 0x00000000 ] || return
        # 0xDDCCBBAA is the bytes AA BB CC DD.
        printf "\\x${word:8:2}\\x${word:6:2}\\x${word:4:2}\\x${word:2:2}"
        address=$((address + 4))
    done
}

# The value of a parameter on the kernel command line.
parameter() {
    for word in $(cat /proc/cmdline); do
        case $word in "$1="*) echo "${word#*=}" ;; esac
    done
}

# Copies agent, tools and drivers of `server:path,options` to memory. Nothing runs from there: opening a file asks the server even
# when its content is in memory, and a head that restarts would stop a node in its work.
fetch() {
    where=${1%%,*} options=${1#*,}
    modprobe -abq nfs nfsv4
    until mount -t nfs4 -o "ro,nolock,$options,addr=${where%%:*},clientaddr=$(cat /run/address)" "$where" /nfs; do
        say "no NFS at $where: asking again"
        sleep 2
    done
    until cp -a /nfs/. /; do
        say "the boot root at $where cannot be copied: trying again"
        sleep 2
    done
    umount /nfs
    say "boot root copied from $where"
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
bootloader_settings 2>/dev/null >/run/bootloader-settings &
settings=$!
until udhcpc -q -n -f -i "$eth" -t 10 -T 1 -s /etc/udhcpc.sh >/run/udhcpc.log 2>&1; do
    say "no address by DHCP on $eth: asking again"
    usleep 500000
done
say "network up, $(cat /run/address) on $eth"

root=$(parameter nfsroot)
[ -z "$root" ] || fetch "$root"
plug
waited=0
until [ -b /dev/mmcblk0 ] || [ $waited -eq 50 ]; do
    waited=$((waited + 1))
    usleep 100000
    plug
done
[ -b /dev/mmcblk0 ] || say "no card yet: the agent looks for it again with each command"

wait "$settings"
while :; do
    piseduce-agent --set-clock
    code=$?
    say "the agent ended with exit code $code; it is started again"
    # 2: the command line is for another node, which waiting does not change; the coordinator cuts the power.
    [ $code -ne 2 ] || sleep 60
    sleep 5
done
