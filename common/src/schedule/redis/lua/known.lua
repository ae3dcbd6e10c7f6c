-- KEYS: tenants, heads, expiries. ARGV: tenants.
-- Returns for each the entry of the index (number, users, claimed, attempts, head, expiry) or false.
local answers = {}
for place, tenant in ipairs(ARGV) do
    local known = redis.call('HGET', KEYS[1], tenant)
    if known then
        local fields = cmsgpack.unpack(known)
        local head, expiry = redis.call('ZSCORE', KEYS[2], tenant), redis.call('ZSCORE', KEYS[3], tenant)
        fields[5], fields[6] = head and tonumber(head), expiry and tonumber(expiry)
        answers[place] = fields
    else
        answers[place] = false
    end
end
return answers
