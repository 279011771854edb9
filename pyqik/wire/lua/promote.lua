-- Moves due entries of a sorted set to their queues. The entry as it was read is the condition: of several pollers,
-- and of a call repeated after a lost reply, only the first one finds it.
--
-- KEYS  1 the sorted set   2 `queues`   3 `dead`
-- ARGV  for each entry: the member as it was read, the queue's name, the payload to push, "";
--       or, if it is not a job: the member, "", what to keep of it in the dead set, the score there
-- Returns  how many were moved
-- Before   the member is in the sorted set     After   its payload is last in its queue, or in the dead set

local moved = 0
for i = 1, #ARGV, 4 do
  local member, queue, payload, score = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  if redis.call('ZREM', KEYS[1], member) == 1 then
    if queue == '' then
      redis.call('ZADD', KEYS[3], score, payload)
    else
      redis.call('SADD', KEYS[2], queue)
      redis.call('LPUSH', 'queue:' .. queue, payload)
    end
    moved = moved + 1
  end
end
return moved
