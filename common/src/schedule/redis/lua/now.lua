-- KEYS: any key of the server whose time is returned.
local time = redis.call('TIME')
return tonumber(time[1]) * 1000000 + tonumber(time[2])
