# Runs in the new root file system, after the packages and the files of root/ are in.

# What belongs to hardware, or to one machine only
systemctl mask --quiet systemd-udevd.service systemd-udevd-kernel.socket systemd-udevd-control.socket \
    systemd-udev-trigger.service systemd-udev-settle.service systemd-modules-load.service systemd-logind.service \
    systemd-networkd-wait-online.service systemd-firstboot.service systemd-binfmt.service systemd-hwdb-update.service \
    sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount sys-fs-fuse-connections.mount \
    dev-hugepages.mount dev-mqueue.mount getty.target console-getty.service getty-static.service \
    cloud-init-hotplugd.socket e2scrub_reap.service
systemctl disable --quiet haproxy.service keepalived.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
    e2scrub_all.timer fstrim.timer
systemctl enable --quiet ssh.service containerd.service
systemctl set-default --quiet multi-user.target

# One of each per machine, made at its first boot
rm -f /etc/ssh/ssh_host_* /etc/hostname /etc/resolv.conf /var/lib/dbus/machine-id
: > /etc/machine-id
rm -rf /var/lib/cloud/*

usermod --password '*' root
rm -f /etc/fstab
mkdir -p /etc/cni/net.d /var/log/journal
# /var is copied into a volume for each machine, so it is kept small
apt-get clean
rm -rf /var/lib/apt/lists/* /var/cache/debconf/*-old /var/log/*.log /var/log/apt/*
