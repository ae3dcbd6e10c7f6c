-- KEYS: a hash. ARGV: cursor, approximate limit. Returns the next cursor ('0' at the end) and names.
local page = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', tonumber(ARGV[2]))
local names = {}
for place = 1, #page[2], 2 do
    names[#names + 1] = page[2][place]
end
return { page[1], names }
