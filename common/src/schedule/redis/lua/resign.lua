-- KEYS: lease. ARGV: holder. Ends the lease and keeps its epoch.
if redis.call('HGET', KEYS[1], 'holder') == ARGV[1] then
    return redis.call('HDEL', KEYS[1], 'holder', 'until')
end
return 0
