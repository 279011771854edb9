-- Gives back everything that a process holds, because it has ended. What it may still send (bytes that were on their way
-- when it was killed) is refused from now on; a blocking move that was still waiting may land once more, so this is
-- run again after that could be.
--
-- KEYS  1 in-flight hash   2 `queues`
-- ARGV  1 prefix of its landing lists   2 seconds for which to remember that it has ended
-- Returns  how many units went back
-- Before   units in the record and on the landing lists of the queues that the record names
-- After    they are at the front of their queues, the oldest first; the record says that any take is too late

local in_flight, back, tokens = KEYS[1], 0, {}

local function give_back_landed(capsule, names)
  for name in string.gmatch(names, '[^\n]+') do
    local landing = ARGV[1] .. capsule .. ':' .. name
    while redis.call('LMOVE', landing, 'queue:' .. name, 'LEFT', 'RIGHT') do
      redis.call('SADD', KEYS[2], name)
      back = back + 1
    end
  end
end

for _, field in ipairs(redis.call('HKEYS', in_flight)) do
  local number, n = string.match(field, '^(%d+):(%d+)$')
  local capsule = string.match(field, '^queues%.(.*)$')
  if number then
    tokens[#tokens + 1] = {field, tonumber(number), tonumber(n)}
  elseif capsule then
    give_back_landed(capsule, redis.call('HGET', in_flight, field))
  end
end
table.sort(tokens, function(a, b)
  if a[2] ~= b[2] then return a[2] > b[2] end
  return a[3] > b[3]
end)

for _, token in ipairs(tokens) do
  local record = redis.call('HGET', in_flight, token[1])
  local split = string.find(record, '\n', 1, true)
  local queue = string.sub(record, 1, split - 1)
  redis.call('SADD', KEYS[2], queue)
  redis.call('RPUSH', 'queue:' .. queue, string.sub(record, split + 1))
  redis.call('HDEL', in_flight, token[1])
  back = back + 1
end

redis.call('HSET', in_flight, 'ended', '1')
redis.call('EXPIRE', in_flight, ARGV[2])
return back
