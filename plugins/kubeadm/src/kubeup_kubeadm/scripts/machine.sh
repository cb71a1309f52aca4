# Is this a machine that can become a Node at all? Changes nothing.
[ "$(id -u)" = 0 ] || fail "steps have to run as root"
# The first steps may come before process number 1 is so far, or while it is still an entrypoint that goes on as systemd.
systemd() { [ -d /run/systemd/system ]; }
case $(tr '\0' ' ' </proc/1/cmdline) in *systemd* | */init\ *) wait_for 30 systemd || : ;; esac
systemd || fail "systemd does not run here; kubelet and containerd are its services"
family >/dev/null

machine=$(uname -m)
case "$ARCH:$machine" in
    amd64:x86_64 | arm64:aarch64) ;;
    *) fail "the machine is $machine, but $ARCH was asked for" ;;
esac

mkdir -p "$STATE" /etc/kubeup
chmod 700 "$STATE"
for folder in /var/lib /etc; do
    free=$(df -Pk "$folder" | awk 'NR == 2 {print int($4 / 1024)}')
    [ "$free" -ge "$([ $folder = /etc ] && echo 64 || echo "$DISK_MIB")" ] ||
        fail "$folder has only $free MiB free; the images and containers of a Node need at least $DISK_MIB MiB"
done
if [ "$EVICTION" = default ]; then
    used=$(df -Pk /var/lib | awk 'NR == 2 {sub("%", "", $5); print $5}')
    [ "$used" -lt 89 ] ||
        fail "the disk under /var/lib is ${used} % full; from 90 % on the kubelet throws pods out (evictionHard)"
fi
kernel=$(uname -r | cut -d. -f1)
[ "$kernel" -ge 4 ] || fail "the kernel is $(uname -r); 4.0 or newer is needed"
say "$machine, $(uname -r), $free MiB free"
