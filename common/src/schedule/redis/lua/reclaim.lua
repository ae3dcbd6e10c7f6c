-- ARGV: limit of users, how far ahead a requested user goes, minimum time between syncs. Releases the users whose
-- claims expired; returns their names.
local now, most = clock(), tonumber(ARGV[1])
local users, stamps = {}, {}
for _, token in ipairs(redis.call('ZRANGEBYSCORE', CLAIMED, '-inf', whole(now), 'LIMIT', 0, most)) do
    local left = {}
    for _, user, stamp in each(batch_of(token)) do
        if #users < most then
            users[#users + 1] = user
            stamps[#stamps + 1] = stamp
        else
            add(left, user, stamp)
        end
    end
    keep(token, left)
    if #users == most then
        break
    end
end
give_back(users, stamps, now - tonumber(ARGV[2]), tonumber(ARGV[3]))
return { users, report(#users > 0) }
