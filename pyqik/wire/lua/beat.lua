-- Writes what Sidekiq's Web UI and API read of a process, renews its lease, and takes one remote signal.
--
-- KEYS  1 `processes`   2 the process hash   3 its `:work`   4 its `:workers` (read by Sidekiq 6.4.1 and older)
--       5 its `-signals`   6 its in-flight hash   7 the leases
-- ARGV  1 identity   2 seconds that the hashes live   3 seconds of the lease   4 how many of the following are fields
--       then the fields and values of the process hash, then for each running job: thread id, take token, run_at
-- Returns  the signal, or nil; the error STALE, and nothing is written, if the process was declared dead

local identity, ttl, lease, fields = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])

if redis.call('HEXISTS', KEYS[6], 'ended') == 1 then
  return redis.error_reply('STALE beat of a process that was declared dead')
end

redis.call('SADD', KEYS[1], identity)
redis.call('HSET', KEYS[2], unpack(ARGV, 5, 4 + fields))
redis.call('EXPIRE', KEYS[2], ttl)

redis.call('UNLINK', KEYS[3], KEYS[4])
for i = 5 + fields, #ARGV, 3 do
  local record = redis.call('HGET', KEYS[6], ARGV[i + 1])
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
