-- Writes the outcomes of units of work: each leaves the in-flight record and enters its next place, in the same
-- instant, and the state of a long job is written or removed with it. A unit that is not in the record (settled before,
-- or given back by somebody else) is left alone, and so is its state.
--
-- KEYS  1 in-flight hash   2 `queues`   3 `dead`
-- ARGV  1 lowest score that the dead set keeps   2 most entries that it keeps
--       3 identity of the process
--       then for each unit: token, verb, key, score, payload, how many words of its state follow, and these: the hashes
--       to be written, see `hashes.lua`, the state first
--       verb "drop":  the end                          "front", "back": onto its own queue, where it is next, or last
--       verb "add":   `payload` into the sorted set `key` at `score`      (an empty payload means the original one)
-- Returns  for each unit 1, or 0 if it was not there
-- Before   the unit is in the record        After   it is in exactly one other place, or gone

local in_flight, settled, died = KEYS[1], {}, false

local function write_state(token, first, last)
  local key = ARGV[first]
  -- Another run may have opened it since (the same jid can exist twice): then it is that run's.
  if redis.pcall('HGET', key, 'owner') ~= ARGV[3] .. ' ' .. token then return end
  write_hashes(first, last)
  redis.call('HDEL', key, 'owner')
end

local i = 4
while i <= #ARGV do
  local token, verb, key, score, payload = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  local words = tonumber(ARGV[i + 5])
  local record = redis.call('HGET', in_flight, token)
  if record then
    local split = string.find(record, '\n', 1, true)
    local queue = string.sub(record, 1, split - 1)
    if payload == '' then payload = string.sub(record, split + 1) end
    if verb == 'add' then
      redis.call('ZADD', key, score, payload)
      died = died or key == KEYS[3]
    elseif verb == 'front' then
      redis.call('SADD', KEYS[2], queue)
      redis.call('RPUSH', 'queue:' .. queue, payload)
    elseif verb == 'back' then
      redis.call('SADD', KEYS[2], queue)
      redis.call('LPUSH', 'queue:' .. queue, payload)
    elseif verb ~= 'drop' then
      return redis.error_reply('unknown verb ' .. verb)
    end
    if words > 0 then write_state(token, i + 6, i + 5 + words) end
    redis.call('HDEL', in_flight, token)
    settled[#settled + 1] = 1
  else
    settled[#settled + 1] = 0
  end
  i = i + 6 + words
end

if died then
  redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', ARGV[1])
  redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -tonumber(ARGV[2]))
end

return settled
