-- ARGV: most users, how far ahead a user asked for goes. Gives back whose claims expired; answers their names.
local now = clock()
local ahead = now - tonumber(ARGV[2])
local users = redis.call('ZRANGEBYSCORE', CLAIMED, '-inf', now, 'LIMIT', 0, tonumber(ARGV[1]))
local held = ask('HMGET', HELD, users)
local stamps = {}
for place in ipairs(users) do
    local claim = held[place] and cmsgpack.unpack(held[place]) or { 0, now, 0 }
    stamps[place] = claim[3] == 1 and math.min(claim[2], ahead) or claim[2]
end
give_back(users, stamps)
return { users, report(#users > 0) }
