-- KEYS: lease. ARGV: holder, lifetime. Returns the epoch, or false if another process leads.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local lease = redis.call('HMGET', KEYS[1], 'holder', 'until', 'epoch')
local epoch = tonumber(lease[3] or '0')
if lease[1] and tonumber(lease[2]) > now then
    if lease[1] ~= ARGV[1] then
        return false
    end
else
    epoch = math.max(epoch + 1, now)
end
redis.call('HSET', KEYS[1], 'holder', ARGV[1], 'until', string.format('%.0f', now + tonumber(ARGV[2])),
    'epoch', string.format('%.0f', epoch))
return epoch
