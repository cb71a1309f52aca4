# The repository's public key: fetched once, compared with the hash when one is given.
fetch_key() {
    mkdir -p "${1%/*}"
    curl -fsSL --retry 3 -m 60 -o "$1.kubeup" "$KEY_URL" || fail "the repository's key cannot be fetched from $KEY_URL"
    if [ -n "$KEY_SHA256" ] && [ "$(sha256sum <"$1.kubeup" | cut -d' ' -f1)" != "$KEY_SHA256" ]; then
        rm -f "$1.kubeup"
        fail "the key at $KEY_URL does not have the hash in spec.kubernetes.config.packages.keySha256"
    fi
    mv "$1.kubeup" "$1"
}
