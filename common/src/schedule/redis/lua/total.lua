-- Computes the sums over all tenants anew if they are wrong. KEYS: tenants, totals. ARGV: number of users of
-- all tenants, as counted by a walk over them. Returns 1 if it computed them.
local TENANTS, TOTALS = unpack(KEYS)
if tonumber(redis.call('HGET', TOTALS, 'users') or '0') == tonumber(ARGV[1]) then
    return 0
end
local users, claimed, attempts = 0, 0, 0
for _, known in ipairs(redis.call('HVALS', TENANTS)) do
    local fields = cmsgpack.unpack(known)
    users, claimed, attempts = users + fields[2], claimed + fields[3], attempts + fields[4]
end
local function whole(number)
    return string.format('%d', number)
end
redis.call('HSET', TOTALS, 'users', whole(users), 'claimed', whole(claimed), 'attempts', whole(attempts))
return 1
