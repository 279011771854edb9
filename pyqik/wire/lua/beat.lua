-- Writes what Sidekiq's Web UI and API read of a process, renews its lease, and takes one remote signal.
--
-- KEYS  1 `processes`   2 the process hash   3 its `:work`   4 its `:workers` (read by Sidekiq 6.4.1 and older)
--       5 its `-signals`   6 its in-flight hash   7 the leases
-- ARGV  1 identity   2 seconds that the hashes live   3 seconds of the lease   4 prefix of its landing lists
--       5 how many of the following are fields, then the fields and values of the process hash
--       then for each running job: thread id, take token (empty: not known yet), run_at
-- Returns  the signal, or nil; the error STALE, and nothing is written, if the process was declared dead

local identity, ttl, lease, fields = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[5])

if redis.call('HEXISTS', KEYS[6], 'ended') == 1 then
  return redis.error_reply('STALE beat of a process that was declared dead')
end

-- First, whatever may be wrong with the keys of the rest: who beats lives.
local now = redis.call('TIME')
redis.call('ZADD', KEYS[7], now[1] + now[2] / 1000000 + lease, identity)

redis.call('SADD', KEYS[1], identity)
redis.call('HSET', KEYS[2], unpack(ARGV, 6, 5 + fields))
redis.call('EXPIRE', KEYS[2], ttl)

local nameless

-- What was started as it landed hears its token from the next take, and C code that holds the GIL puts that off for as
-- long as it likes. It stands in the record, under a token that nobody has named, or still on a landing list, where the
-- oldest was started first.
local function next_nameless()
  if nameless then return table.remove(nameless, 1) end
  nameless = {}
  local named, tokens, capsules = {}, {}, {}
  for i = 6 + fields, #ARGV, 3 do named[ARGV[i + 1]] = true end
  for _, field in ipairs(redis.call('HKEYS', KEYS[6])) do
    local number, n = string.match(field, '^(%d+):(%d+)$')
    if number and not named[field] then tokens[#tokens + 1] = {field, tonumber(number), tonumber(n)} end
    capsules[#capsules + 1] = string.match(field, '^queues%.(.*)$')
  end
  table.sort(tokens, function(a, b)
    if a[2] ~= b[2] then return a[2] > b[2] end
    return a[3] < b[3]
  end)
  for _, token in ipairs(tokens) do nameless[#nameless + 1] = redis.call('HGET', KEYS[6], token[1]) end
  for _, capsule in ipairs(capsules) do
    for name in string.gmatch(redis.call('HGET', KEYS[6], 'queues.' .. capsule), '[^\n]+') do
      local payloads = redis.call('LRANGE', ARGV[4] .. capsule .. ':' .. name, 0, -1)
      for i = #payloads, 1, -1 do nameless[#nameless + 1] = name .. '\n' .. payloads[i] end
    end
  end
  return table.remove(nameless, 1)
end

redis.call('UNLINK', KEYS[3], KEYS[4])
for i = 6 + fields, #ARGV, 3 do
  local record
  if ARGV[i + 1] == '' then record = next_nameless() else record = redis.call('HGET', KEYS[6], ARGV[i + 1]) end
  if record then
    local split = string.find(record, '\n', 1, true)
    -- cjson is safe here: both values are strings, so no number can lose its digits.
    local entry = '{"queue":' .. cjson.encode(string.sub(record, 1, split - 1))
      .. ',"payload":' .. cjson.encode(string.sub(record, split + 1))
      .. ',"run_at":' .. ARGV[i + 2] .. '}'
    redis.call('HSET', KEYS[3], ARGV[i], entry)
    redis.call('HSET', KEYS[4], ARGV[i], entry)
  end
end
redis.call('EXPIRE', KEYS[3], ttl)
redis.call('EXPIRE', KEYS[4], ttl)

return redis.call('RPOP', KEYS[5])
