-- ARGV: token, how long, users. Answers how many users the tenant has, and for each of those named the record, or false
-- when the claim under this token is gone.
local token, expires = tonumber(ARGV[1]), clock() + tonumber(ARGV[2])
local users = rest(3)
local held, records = ask('HMGET', HELD, users), ask('HMGET', STATUS, users)
local answers, claims = {}, {}
for place, user in ipairs(users) do
    answers[place] = false
    if held[place] and cmsgpack.unpack(held[place])[1] == token then
        answers[place] = records[place]
        claims[#claims + 1] = expires
        claims[#claims + 1] = user
    end
end
call('ZADD', CLAIMED, claims)
return { redis.call('HLEN', STATUS), answers }
