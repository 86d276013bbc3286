# What somebody new types, on a bare Debian, as a user without rights: $IMAP is the provider's server, $CA its authority.
set -eu
cd "$HOME"
umask 077
printf %s "$UPSTREAM" >provider-password

echo "== account add"
mailweir account add "$ADDRESS" --non-interactive --username "$LOGIN" --imap "$IMAP" --imap-tls implicit --ca-file "$CA" \
  --upstream-password-file provider-password | tee added
password=$(sed -nE 's/^ *password +([^ ]+).*/\1/p' added | head -1)
test -n "$password"

echo "== check"
mailweir check

echo "== run"
mailweir run >out 2>log &
daemon=$!
trap 'kill $daemon' EXIT
tries=0
until grep -qx ready out; do
  kill -0 $daemon
  tries=$((tries + 1))
  test $tries -lt 300
  sleep 0.1
done
port=$(sed -nE 's/^imaps .*:([0-9]+)$/\1/p' out)
mailweir certs export >ca.pem

echo "== read"
curl --silent --show-error --cacert ca.pem --user "$ADDRESS:$password" "imaps://localhost:$port/INBOX;UID=1"
echo "== status"
mailweir status
mailweir service print >"$HOME/unit"
mailweir service print --system --as "$(id -un)" >"$HOME/system-unit"

echo "== stop"
kill $daemon
wait $daemon
trap - EXIT
echo "== done"
