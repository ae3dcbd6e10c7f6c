-- KEYS: mark. ARGV: an id for data without one. Returns the id, the previous number (false for new data) and
-- the new one.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local id = redis.call('HGET', KEYS[1], 'id')
local before = id and tonumber(redis.call('HGET', KEYS[1], 'number') or '0')
-- Steps of one: a number that was set back does not catch up before it is compared.
local number = before and before + 1 or now
id = id or ARGV[1]
redis.call('HSET', KEYS[1], 'id', id, 'number', string.format('%.0f', number))
return { id, before, number }
