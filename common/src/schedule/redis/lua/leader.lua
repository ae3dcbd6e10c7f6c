-- KEYS: lease. Returns the holder, or false if no process leads.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local lease = redis.call('HMGET', KEYS[1], 'holder', 'until')
return lease[1] and tonumber(lease[2]) > now and lease[1]
