-- Takes suspects out of the record of a process that has died, into the custody of its supervisor.
--
-- KEYS  1 in-flight hash of the process   2 in-flight hash of the custody   3 the leases
-- ARGV  1 identity of the custody   2 what the names of its lists begin with   3 seconds of its lease
--       then the tokens, the oldest first
-- Returns  how many were there
-- Before   the units are in the record of the process
-- After    each is on the custody's list of its queue, behind what waits there; the custody's record names every queue
--          that it has a list of, and it has a lease: whoever recovers it, gives everything back

local custody = KEYS[2]
local names, known = {}, {}

local function name(queue)
  if not known[queue] then
    known[queue] = true
    names[#names + 1] = queue
  end
end

for queue in string.gmatch(redis.call('HGET', custody, 'queues.solo') or '', '[^\n]+') do name(queue) end

local moved = 0
for i = 4, #ARGV do
  local record = redis.call('HGET', KEYS[1], ARGV[i])
  if record then
    local split = string.find(record, '\n', 1, true)
    local queue = string.sub(record, 1, split - 1)
    redis.call('LPUSH', ARGV[2] .. 'solo:' .. queue, string.sub(record, split + 1))
    redis.call('HDEL', KEYS[1], ARGV[i])
    name(queue)
    moved = moved + 1
  end
end

if moved > 0 then
  redis.call('HSET', custody, 'queues.solo', table.concat(names, '\n'))
  -- Somebody may have taken this custody for abandoned, and recovered it.
  redis.call('HDEL', custody, 'ended')
  redis.call('PERSIST', custody)
  redis.call('ZADD', KEYS[3], redis.call('TIME')[1] + ARGV[3], ARGV[1])
end
return moved
