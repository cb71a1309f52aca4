[ "$(cat "$STATE/bundle/$VERSION/.sha256" 2>/dev/null)" = "$SHA256" ]
