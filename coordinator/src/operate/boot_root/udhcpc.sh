#!/bin/busybox sh
# What udhcpc tells is made the interface's address.
case $1 in
bound | renew)
    ip address flush dev "$interface"
    ip address add "$ip/${mask:-24}" dev "$interface"
    [ -z "$router" ] || ip route replace default via "${router%% *}"
    echo "$ip" >/run/address
    ;;
esac
