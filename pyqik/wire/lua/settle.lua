-- Moves units of work out of a process's in-flight record to where their outcomes say, each at most once: a token that
-- is no longer in the record has been settled already, by this process (the reply was lost) or by a rescuer.
--
-- KEYS  1 in-flight hash   2 `queues`   3 `dead`
-- ARGV  1 lowest score that the dead set keeps   2 most entries that it keeps
--       then for each unit: token, verb, key, score, payload
--       verb "drop":  the end                          "front", "back": onto its own queue, where it is next, or last
--       verb "add":   `payload` into the sorted set `key` at `score`      (an empty payload means the original one)
-- Returns  for each unit 1, or 0 if it was not there
-- Before   the unit is in the record        After   it is in exactly one other place, or gone

local in_flight, settled, died = KEYS[1], {}, false

for i = 3, #ARGV, 5 do
  local token, verb, key, score, payload = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
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
    redis.call('HDEL', in_flight, token)
    settled[#settled + 1] = 1
  else
    settled[#settled + 1] = 0
  end
end

if died then
  redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', ARGV[1])
  redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -tonumber(ARGV[2]))
end

return settled
