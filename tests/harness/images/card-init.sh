#!/bin/busybox sh
# The first process of a card's initramfs: finds the partition that `root=PARTUUID=` names and starts the system in it.
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev

plug() {
    cat /sys/bus/*/devices/*/modalias 2>/dev/null | sort -u | xargs modprobe -abq 2>/dev/null
}

plug
plug
for word in $(cat /proc/cmdline); do
    case $word in root=PARTUUID=*) wanted=${word#root=PARTUUID=} ;; esac
done
until [ -b /dev/mmcblk0 ]; do
    usleep 50000
    plug
done
# An MBR's identifier is at byte 440; a partition is named by it and its number.
disk=$(dd if=/dev/mmcblk0 bs=4 skip=110 count=1 2>/dev/null | hexdump -e '1/4 "%08x"')
if [ "${wanted%-*}" != "$disk" ]; then
    echo "card: the command line wants the root $wanted, and this card is $disk"
    sleep 5
    reboot -f
fi
root=/dev/mmcblk0p$((0x${wanted#*-}))
until [ -b "$root" ]; do usleep 50000; done
mkdir -p /card
modprobe -q ext4
mount -t ext4 -o rw "$root" /card || {
    echo "card: $root cannot be mounted"
    sleep 5
    reboot -f
}
echo "card: system starts from $root at $(cut -d ' ' -f 1 /proc/uptime) s"
mount --move /dev /card/dev
mount --move /proc /card/proc
mount --move /sys /card/sys
exec switch_root /card /sbin/init
