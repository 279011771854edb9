-- Writes what Sidekiq's Web UI and API read of a process, renews its lease, and takes one remote signal.
--
-- KEYS  1 `processes`   2 the process hash   3 its `:work`   4 its `:workers` (read by Sidekiq 6.4.1 and older)
--       5 its `-signals`   6 its in-flight hash   7 the leases
-- ARGV  1 identity   2 seconds that the hashes live   3 seconds of the lease   4 prefix of its landing lists
--       5 how many of the following are fields, then the fields and values of the process hash
--       then for each running job: thread id, take token (empty: it is on a landing list), run_at
-- Returns  the signal, or nil; the error STALE, and nothing is written, if the process was declared dead

local identity, ttl, lease, fields = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[5])

if redis.call('HEXISTS', KEYS[6], 'ended') == 1 then
  return redis.error_reply('STALE beat of a process that was declared dead')
end

redis.call('SADD', KEYS[1], identity)
redis.call('HSET', KEYS[2], unpack(ARGV, 6, 5 + fields))
redis.call('EXPIRE', KEYS[2], ttl)

local landed

-- What was started as it landed has no token before the next take, which C code that holds the GIL puts off for as long
-- as it likes. The oldest of each landing list was started first.
local function next_landed()
  if not landed then
    landed = {}
    for _, field in ipairs(redis.call('HKEYS', KEYS[6])) do
      local capsule = string.match(field, '^queues%.(.*)$')
      for name in string.gmatch(capsule and redis.call('HGET', KEYS[6], field) or '', '[^\n]+') do
        local payloads = redis.call('LRANGE', ARGV[4] .. capsule .. ':' .. name, 0, -1)
        for i = #payloads, 1, -1 do
          landed[#landed + 1] = name .. '\n' .. payloads[i]
        end
      end
    end
  end
  return table.remove(landed, 1)
end

redis.call('UNLINK', KEYS[3], KEYS[4])
for i = 6 + fields, #ARGV, 3 do
  local record
  if ARGV[i + 1] == '' then record = next_landed() else record = redis.call('HGET', KEYS[6], ARGV[i + 1]) end
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

local now = redis.call('TIME')
redis.call('ZADD', KEYS[7], now[1] + now[2] / 1000000 + lease, identity)

return redis.call('RPOP', KEYS[5])
