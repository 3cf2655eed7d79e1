# To be read by scripts (`.`), not run: waits for a daemon that they started. They have a function `fail MESSAGE`.

# until_ready PID LOG SECONDS: until the log says that the daemon is ready, which is running as PID, or under it.
until_ready() {
    local pid=$1 log=$2 seconds=$3 until=$((SECONDS + $3))
    until grep -qs ready "$log"; do
        kill -0 "$pid" 2>/dev/null || fail "the daemon ended"
        [ $SECONDS -lt $until ] || fail "the daemon is not ready after $seconds s"
        sleep 0.1
    done
}
