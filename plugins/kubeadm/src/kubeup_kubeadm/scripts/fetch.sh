# The bundle from its URL, unless it is here already. A transfer that was broken off goes on where it stopped.
part=$ARCHIVE.part
is_ours() { [ -f "$1" ] && [ "$(sha256sum <"$1" | cut -d' ' -f1)" = "$SHA256" ]; }
mkdir -p "${ARCHIVE%/*}"
if ! is_ours "$ARCHIVE"; then
    if ! is_ours "$part"; then
        has curl || install_packages curl ca-certificates
        log=$(curl -fsSL --retry 3 --connect-timeout 30 -C - -o "$part" "$URL" 2>&1) || {
            case $? in 22 | 33) rm -f "$part" ;; esac # it is not there, or cannot be gone on with
            fail "the bundle cannot be fetched from $URL: $(printf '%s' "$log" | tail -n 1)"
        }
    fi
    if ! is_ours "$part"; then
        rm -f "$part"
        fail "the file at $URL does not have the hash in spec.kubernetes.bundle.sha256"
    fi
    mv "$part" "$ARCHIVE"
fi
