-- ARGV: token, minimum time between syncs, how far ahead a user asked for goes, then per user: name, due after, idle cycles,
-- failures in a row, failure or '' for a success. Answers the places of those finished, and the intervals in seconds
-- since their attempts before.
local FIELDS = 5
local SAMPLE = 64
local token, minimum, ahead = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local now = clock()
local users = {}
for place = 4, #ARGV, FIELDS do
    users[#users + 1] = ARGV[place]
end
local held, records = ask('HMGET', HELD, users), ask('HMGET', STATUS, users)
local finished, intervals, seen = {}, {}, {}
local done, stamps, status = {}, {}, {}
local failures, failing, well = {}, {}, {}
for place, user in ipairs(users) do
    local claim = held[place] and cmsgpack.unpack(held[place])
    if claim and claim[1] == token and not seen[user] then
        seen[user] = true
        local at = 4 + (place - 1) * FIELDS
        -- A microsecond apart: equal scores are slow to keep in order.
        local stamp = now + tonumber(ARGV[at + 1]) - minimum + #done
        if claim[3] == 1 then
            stamp = math.min(stamp, now - ahead + #done)
        end
        local _, _, attempt, success = record(records[place])
        if attempt > 0 then
            intervals[#intervals + 1] = math.max(0, math.floor((now - attempt) / 1000000))
        end
        local failure = ARGV[at + 4]
        if failure == '' then
            success = -1
            well[#well + 1] = user
        else
            failures[#failures + 1] = user
            failures[#failures + 1] = failure
            if success > 0 then
                failing[#failing + 1] = success
                failing[#failing + 1] = user
            end
        end
        finished[#finished + 1] = place - 1
        done[#done + 1] = user
        stamps[#stamps + 1] = stamp
        status[#status + 1] = user
        status[#status + 1] = cmsgpack.pack({ tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]), now, success })
    end
end
if #done == 0 then
    return { { finished, intervals }, report(false) }
end
give_back(done, stamps)
call('HSET', STATUS, status)
call('HSET', FAILURES, failures)
call('ZADD', FAILING, failing)
-- Most succeed and have no failure to forget.
if redis.call('EXISTS', FAILURES) == 1 then
    call('HDEL', FAILURES, well)
    call('ZREM', FAILING, well)
end
redis.call('HINCRBY', META, 'attempts', #done)
if #intervals > 0 then
    call('LPUSH', INTERVALS, intervals)
    redis.call('LTRIM', INTERVALS, 0, SAMPLE - 1)
end
return { { finished, intervals }, report(true) }
