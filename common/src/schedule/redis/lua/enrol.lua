-- ARGV: per user: name, stamp, last success or ''. Answers how many were not in.
local FIELDS = 3
local users = {}
for place = 1, #ARGV, FIELDS do
    users[#users + 1] = ARGV[place]
end
local known = ask('HMGET', STATUS, users)
local status, due, seen = {}, {}, {}
for place, user in ipairs(users) do
    if not known[place] and not seen[user] then
        seen[user] = true
        local at = (place - 1) * FIELDS
        due[#due + 1] = ARGV[at + 2]
        due[#due + 1] = user
        status[#status + 1] = user
        status[#status + 1] = cmsgpack.pack({ 0, 0, 0, tonumber(ARGV[at + 3]) or 0 })
    end
end
call('HSET', STATUS, status)
call('ZADD', DUE, due)
return { #due / 2, report(#due > 0) }
