-- ARGV: how long new users stay claimed (0: they wait at once), then per user: name, stamp, last success or
-- '', failures in a row, last failure or '', contribution to the digest of names.
-- Returns the number of new users.
local FIELDS, BATCH = 6, 100
local lasts = tonumber(ARGV[1])
local users, fields = {}, {}
for place = 2, #ARGV, FIELDS do
    users[#users + 1] = ARGV[place]
end
local known = ask('HMGET', STATUS, users)
local new, seen = {}, {}
for place, user in ipairs(users) do
    if not known[place] and not seen[user] then
        seen[user] = true
        new[#new + 1] = user
        fields[user] = (place - 1) * FIELDS + 1
    end
end
if #new == 0 then
    return { 0, report(false) }
end
-- A user whose record is gone but whose place is not keeps the place.
local scores, placed = ask('ZMSCORE', DUE, new), {}
for place, user in ipairs(new) do
    placed[user] = scores[place]
end
local batches = redis.call('HGETALL', BATCHES)
for token = 1, #batches, 2 do
    for _, user in each(cmsgpack.unpack(batches[token + 1])) do
        placed[user] = true
    end
end

if redis.call('HLEN', STATUS) == 0 then
    redis.call('HSET', META, 'names', 0)
end
local status, due, failures, names = {}, {}, {}, 0
local token, batch = lasts > 0 and grown('token'), {}
local function claim()
    if #batch > 0 then
        redis.call('ZADD', CLAIMED, whole(clock() + lasts), whole(token))
        keep(whole(token), batch)
        token, batch = token + 1, {}
    end
end
for _, user in ipairs(new) do
    local at = fields[user]
    if placed[user] then
        -- Only the record is missing.
    elseif lasts > 0 then
        add(batch, user, ARGV[at + 2])
        if #batch == 2 * BATCH then
            claim()
        end
    else
        due[#due + 1] = ARGV[at + 2]
        due[#due + 1] = user
    end
    status[#status + 1] = user
    status[#status + 1] = cmsgpack.pack({ 0, tonumber(ARGV[at + 4]), 0, tonumber(ARGV[at + 3]) or 0 })
    if ARGV[at + 5] ~= '' then
        failures[#failures + 1] = user
        failures[#failures + 1] = ARGV[at + 5]
    end
    names = names + tonumber(ARGV[at + 6])
end
claim()
if token then
    redis.call('HSET', META, 'token', whole(token))
end
add_to_names(names)
call('HSET', STATUS, status)
call('ZADD', DUE, due)
call('HSET', FAILURES, failures)
return { #new, report(true) }
