-- The exchange of one process with the store; ledger.rs does the same in memory.
-- KEYS: members (name -> the member as it reported itself), alive (names by expiry), numbers (name -> number
-- of the last report), works (names of processes that take jobs), circuits (tenant -> circuit; " version" ->
-- last version), changes (tenants by version), then one hash per server in the report, then for each of these
-- servers a hash about its pause: since, tenant, why, and "ended", the time at which its pauses were last
-- ended. (These fields are not in the server's own hash, because earlier builds take unknown fields there for
-- holdings.)
-- ARGV: the report, and the member as it is to be stored.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local told = cmsgpack.unpack(ARGV[1])
local name = told.name

-- Times and versions of more than 14 digits would be written with an exponent.
local function text(number)
  return string.format('%.0f', number)
end

local function bury(dead)
  for _, gone in ipairs(dead) do
    redis.call('ZREM', KEYS[2], gone)
    redis.call('HDEL', KEYS[1], gone)
    redis.call('HDEL', KEYS[3], gone)
    redis.call('SREM', KEYS[4], gone)
  end
end
bury(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', text(now), 'LIMIT', 0, 200))

local last = tonumber(redis.call('HGET', KEYS[3], name) or '0')
if told.number <= last then
  return cmsgpack.pack({ outcome = 'late' })
end
if last == 0 and redis.call('ZCARD', KEYS[2]) >= told.maximum_members then
  return cmsgpack.pack({ outcome = 'crowded' })
end
local expires = now + told.lifetime_ms
redis.call('HSET', KEYS[1], name, ARGV[2])
redis.call('ZADD', KEYS[2], text(expires), name)
redis.call('HSET', KEYS[3], name, text(told.number))
if told.works then
  redis.call('SADD', KEYS[4], name)
end
for place = 1, 4 do
  -- Keys of a fleet that is gone expire.
  redis.call('PEXPIRE', KEYS[place], text(told.lifetime_ms + 86400000))
end

local servers = {}
local own = 'p:' .. name
for number, ask in ipairs(told.servers) do
  local key = KEYS[6 + number]
  local fields = redis.call('HGETALL', key)
  local others, wanting, demand_of, paused = 0, {}, {}, 0
  local longest = expires
  for place = 1, #fields, 2 do
    local field, value = fields[place], fields[place + 1]
    if field == 'pause' then
      paused = tonumber(value)
    elseif field ~= own then
      local held, demand, ends = string.match(value, '^(%d+) (%d+) (%d+)$')
      ends = tonumber(ends)
      if ends <= now then
        redis.call('HDEL', key, field)
      else
        others = others + tonumber(held)
        longest = math.max(longest, ends)
        if tonumber(demand) > 0 then
          table.insert(wanting, field)
          demand_of[field] = tonumber(demand)
        end
      end
    end
  end
  if ask.pause then
    local note = KEYS[6 + #told.servers + number]
    local since, ends = now - ask.pause.ago_ms, now + ask.pause.left_ms
    local ended = tonumber(redis.call('HGET', note, 'ended') or '0')
    if since > ended and ends > paused then
      if paused <= now then
        redis.call('HDEL', note, 'since')
      end
      redis.call('HSETNX', note, 'since', text(since))
      redis.call('HDEL', note, 'tenant')
      redis.call('HSET', note, 'why', ask.pause.why)
      if ask.pause.tenant then
        redis.call('HSET', note, 'tenant', ask.pause.tenant)
      end
      redis.call('PEXPIRE', note, text(math.max(redis.call('PTTL', note), ends - now)))
      paused = ends
      redis.call('HSET', key, 'pause', text(paused))
    end
  end
  if paused > 0 and paused <= now then
    redis.call('HDEL', key, 'pause')
  end
  local share = math.min(ask.wants, math.max(0, ask.limit - others))
  local held = math.max(ask.holds, share)
  if held > 0 or ask.demand > 0 then
    redis.call('HSET', key, own, text(held) .. ' ' .. text(ask.demand) .. ' ' .. text(expires))
  else
    redis.call('HDEL', key, own)
  end
  if ask.demand > 0 then
    table.insert(wanting, own)
    demand_of[own] = ask.demand
  end
  table.sort(wanting)
  local demands, mine = {}, nil
  for place, field in ipairs(wanting) do
    demands[place] = demand_of[field]
    if field == own then
      mine = place - 1
    end
  end
  redis.call('PEXPIRE', key, text(math.max(longest, paused) - now + 1000))
  servers[number] = { share = share, demands = demands, place = mine, pause_ms = math.max(0, paused - now) }
end

local version = tonumber(redis.call('HGET', KEYS[5], ' version') or '0')
for _, change in ipairs(told.circuits) do
  local present = redis.call('HGET', KEYS[5], change.tenant)
  if not present or cmsgpack.unpack(present).version == change.base then
    version = version + 1
    local circuit = { version = version }
    if change.open then
      circuit.failure = change.open.failure
      circuit.failures = change.open.failures
      circuit.opened = now - change.open.opened_ago_ms
      circuit.ends = now + change.open.left_ms
    end
    redis.call('HSET', KEYS[5], change.tenant, cmsgpack.pack(circuit), ' version', text(version))
    redis.call('ZADD', KEYS[6], text(version), change.tenant)
  end
end
local many = redis.call('ZCARD', KEYS[6]) - told.maximum_circuits
if many > 0 then
  for _, tenant in ipairs(redis.call('ZRANGE', KEYS[6], 0, many - 1)) do
    redis.call('HDEL', KEYS[5], tenant)
    redis.call('ZREM', KEYS[6], tenant)
  end
end
local known = told.known
if known > version then
  known = 0
end
local circuits = {}
local changed =
  redis.call('ZRANGEBYSCORE', KEYS[6], '(' .. text(known), '+inf', 'LIMIT', 0, told.maximum_changes)
local reached = version
for place, tenant in ipairs(changed) do
  local circuit = cmsgpack.unpack(redis.call('HGET', KEYS[5], tenant))
  local learned = { tenant = tenant, version = circuit.version }
  if circuit.failure then
    learned.open = {
      failure = circuit.failure,
      failures = circuit.failures,
      opened_ago_ms = math.max(0, now - circuit.opened),
      left_ms = math.max(0, circuit.ends - now),
    }
  end
  circuits[place] = learned
  if place == told.maximum_changes then
    reached = circuit.version
  end
end

return cmsgpack.pack({
  outcome = 'told',
  now_ms = now,
  workers = redis.call('SCARD', KEYS[4]),
  servers = servers,
  circuits = circuits,
  known = reached,
})
