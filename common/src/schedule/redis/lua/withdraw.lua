-- ARGV: user, contribution to the digest of names. Returns 1 if the user was in the schedule.
local user = ARGV[1]
if redis.call('HDEL', STATUS, user) == 0 then
    return { 0, report(false) }
end
if redis.call('ZREM', DUE, user) == 0 then
    local token, batch, place = claim_of(user)
    if token then
        table.remove(batch, place)
        table.remove(batch, place)
        keep(token, batch)
    end
end
add_to_names(-tonumber(ARGV[2]))
redis.call('SREM', ASKED, user)
redis.call('HDEL', REQUESTED, user)
redis.call('HDEL', FAILURES, user)
redis.call('ZREM', FAILING, user)
return { 1, report(true) }
