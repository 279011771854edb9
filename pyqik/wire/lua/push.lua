-- Push payloads to queues and entries to the schedule, once, however often this is sent.
--
-- KEYS  1 the pusher's fence, 2 `queues`, 3 `schedule`, 4… the lists of the queues, in the order of their groups
-- ARGV  1 the number of this push, counted by the pusher
--       2 seconds for which the fence is remembered
--       3 how many entries are scheduled; then that many pairs of score and payload
--       then for each list of KEYS 4…: the queue's name, how many payloads, the payloads, the first to run first
-- Returns 1 if it pushed, 0 if this push had happened before.
--
-- Before: the fence holds the number of the last push of this pusher, or nothing (new, or long idle).
-- After: it holds this number, and everything is pushed. If a command fails the fence stays, and the error is told.

local number = tonumber(ARGV[1])
if tonumber(redis.call('GET', KEYS[1]) or '0') >= number then
  return 0
end

-- `unpack` fails beyond some 8,000 values.
local SLICE = 1000

local function in_slices(command, key, first, last)
  for from = first, last, SLICE do
    redis.call(command, key, unpack(ARGV, from, math.min(from + SLICE - 1, last)))
  end
end

local at = 4 + 2 * tonumber(ARGV[3])
in_slices('ZADD', KEYS[3], 4, at - 1)

for index = 4, #KEYS do
  local size = tonumber(ARGV[at + 1])
  redis.call('SADD', KEYS[2], ARGV[at])
  in_slices('LPUSH', KEYS[index], at + 2, at + 1 + size)
  at = at + 2 + size
end

redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return 1
