# Unpacks the bundle that was sent beside this script, or fetched before. Its hash is proven already; its parts are proven here.
archive=$ARCHIVE
target=$STATE/bundle/$VERSION
rm -rf "$STATE"/bundle/*.part
mkdir -p "$target.part"
tar -xf "$archive" -C "$target.part" || {
    free=$(df -Pk "$target.part" | awk 'NR == 2 {print int($4 / 1024)}')
    rm -rf "$target.part"
    [ "$free" -gt 8 ] || fail "the bundle cannot be unpacked: the disk is full ($free MiB are free in $STATE)"
    fail "the bundle cannot be unpacked: it is truncated, or not a tar archive"
}
[ -f "$target.part/SHA256SUMS" ] || fail "the archive has no SHA256SUMS: it was not made by 'kubeup bundle create'"
(cd "$target.part" && sha256sum --quiet -c SHA256SUMS) || fail "a file in the bundle does not have the hash that SHA256SUMS gives"
rm -rf "$target"
mv "$target.part" "$target"
echo "$SHA256" >"$target/.sha256"
rm -f "$archive"
