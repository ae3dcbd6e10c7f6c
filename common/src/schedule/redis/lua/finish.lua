-- ARGV: token, minimum time between syncs, how far ahead a requested user goes, then per user: name, due
-- after, first half of the record, failure or '' for a success.
-- Returns the places of the finished users, and for some of them the intervals in seconds since their
-- previous attempts.
local FIELDS, SUCCEEDED = 4, cmsgpack.pack(-1)
-- Intervals kept in total, and per report: reading a record costs as much as all other work for a user.
local SAMPLE, OF_ONE = 64, 8
local users = {}
for place = 4, #ARGV, FIELDS do
    users[#users + 1] = ARGV[place]
end
local places = take(ARGV[1], users)
if #places == 0 then
    return { { {}, {} }, report(false) }
end

local done, read, read_at = {}, {}, {}
for order, place in ipairs(places) do
    done[order] = users[place]
    if order <= OF_ONE or ARGV[place * FIELDS + 3] ~= '' then
        read[#read + 1] = users[place]
        read_at[order] = #read
    end
end
local records = ask('HMGET', STATUS, read)

local now = clock()
local attempt, undelayed = cmsgpack.pack(now), now - tonumber(ARGV[2])
local finished, intervals, stamps, status = {}, {}, {}, {}
local failures, failing, well = {}, {}, {}
for order, place in ipairs(places) do
    local user, last = done[order], place * FIELDS + 3
    local before, success = records[read_at[order]], SUCCEEDED
    if before and order <= OF_ONE then
        local attempted = cmsgpack.unpack(before)[3]
        if attempted > 0 then
            intervals[#intervals + 1] = math.max(0, math.floor((now - attempted) / 1000000))
        end
    end
    if ARGV[last] == '' then
        well[#well + 1] = user
    else
        local succeeded = success_of(before)
        success = cmsgpack.pack(succeeded)
        failures[#failures + 1] = user
        failures[#failures + 1] = ARGV[last]
        if succeeded > 0 then
            failing[#failing + 1] = whole(succeeded)
            failing[#failing + 1] = user
        end
    end
    finished[order] = place - 1
    -- A microsecond apart: equal scores are slow to keep in order.
    stamps[order] = whole(undelayed + tonumber(ARGV[last - 2]) + order - 1)
    status[#status + 1] = user
    status[#status + 1] = ARGV[last - 1] .. attempt .. success
end
if redis.call('EXISTS', REQUESTED) == 1 then
    call('HDEL', REQUESTED, done)
end
give_back(done, stamps, now - tonumber(ARGV[3]), tonumber(ARGV[2]))
call('HSET', STATUS, status)
call('HSET', FAILURES, failures)
call('ZADD', FAILING, failing)
-- Most users succeed and have no stored failure.
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
