-- KEYS: heads, tenants, mark. ARGV: limit. Returns the mark's number or false, and a list of tenant, stamp
-- and number of claimed users.
local heads = redis.call('ZRANGE', KEYS[1], 0, tonumber(ARGV[1]) - 1, 'WITHSCORES')
local answer = {}
for place = 1, #heads, 2 do
    local known = redis.call('HGET', KEYS[2], heads[place])
    answer[#answer + 1] = { heads[place], tonumber(heads[place + 1]), known and cmsgpack.unpack(known)[3] or 0 }
end
local mark = redis.call('HGET', KEYS[3], 'number')
return { mark and tonumber(mark), answer }
