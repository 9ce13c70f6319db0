#!/bin/busybox sh
/bin/busybox mkdir -p /sbin /usr/sbin /usr/bin
/bin/busybox --install -s
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmpfs /run
mkdir -p /tmp /etc/dropbear /root
echo 'root:x:0:0:root:/root:/bin/sh' > /etc/passwd
echo 'nobody:*:65534:65534:nobody:/var:/bin/false' >> /etc/passwd
ip link set lo up
for module in {card}; do modprobe $module; done
exec /main </dev/null >/dev/console 2>&1
