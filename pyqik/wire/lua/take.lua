-- Takes up to `count` units of work into a process's in-flight record. A take that is repeated because its reply was
-- lost gives the same answer again; one that arrives after a later take, or after the process was declared dead, is refused.
--
-- KEYS  1 in-flight hash   2 `paused`   then for each queue: its list, its landing list;   then the leases
-- ARGV  1 capsule   2 take number   3 count   4 "1" to adopt what blocking moves have landed
--       5 identity   6 seconds of the lease that the first take writes if there is none yet (0: it writes none)
--       then for each queue: its name, and how many of its landed payloads the process has started already
-- Returns  {paused queue names, {token, queue, payload, token, queue, payload, ...}, "1" if this repeats an answer};
--          a token is "<take number>:<n>"
-- Before   payloads wait in queues; some may have landed, and the oldest of these may have been started
-- After    what was started stands in the hash, and up to `count` more; if adopting, nothing is left on the landing
--          lists: what is too much, or of a paused queue, is at the front of its queue again

local in_flight, capsule, number, count = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])
local adopt = ARGV[4] == '1'
local names, started = {}, {}
for i = 7, #ARGV, 2 do
  names[#names + 1] = ARGV[i]
  started[#started + 1] = tonumber(ARGV[i + 1])
end

local paused, is_paused = {}, redis.call('SMISMEMBER', KEYS[2], unpack(names))
for i, flag in ipairs(is_paused) do
  if flag == 1 then paused[#paused + 1] = names[i] end
end

local take = 'take.' .. capsule
local state = redis.call('HMGET', in_flight, 'ended', take)
local ended, last = state[1], state[2]
if ended then
  return redis.error_reply('STALE take ' .. number .. ' of a process that was declared dead')
elseif last and tonumber(last) > tonumber(number) then
  return redis.error_reply('STALE take ' .. number .. ' came after take ' .. last)
end

local taken = {}

if last == number then
  local n = 1
  local record = redis.call('HGET', in_flight, number .. ':1')
  while record do
    local split = string.find(record, '\n', 1, true)
    taken[#taken + 1] = number .. ':' .. n
    taken[#taken + 1] = string.sub(record, 1, split - 1)
    taken[#taken + 1] = string.sub(record, split + 1)
    n = n + 1
    record = redis.call('HGET', in_flight, number .. ':' .. n)
  end
  return {paused, taken, '1'}
end

if not last then
  -- Whoever gives everything back has to know where blocking moves may have landed something.
  redis.call('HSET', in_flight, 'queues.' .. capsule, table.concat(names, '\n'))
  if tonumber(ARGV[6]) > 0 then
    -- What holds jobs has a lease from the first instant: should its host die before the first heartbeat.
    local now = redis.call('TIME')
    redis.pcall('ZADD', KEYS[#KEYS], 'NX', now[1] + now[2] / 1000000 + ARGV[6], ARGV[5])
  end
end
redis.call('HSET', in_flight, take, number)
local n = 0

local function keep(queue, payload)
  n = n + 1
  local token = number .. ':' .. n
  redis.call('HSET', in_flight, token, queue .. '\n' .. payload)
  taken[#taken + 1] = token
  taken[#taken + 1] = queue
  taken[#taken + 1] = payload
end

for i, name in ipairs(names) do
  for _ = 1, started[i] do
    local payload = redis.call('RPOP', KEYS[2 * i + 2])
    if payload then
      keep(name, payload)
      count = count + 1
    end
  end
end

if adopt then
  for i, name in ipairs(names) do
    local queue, landing = KEYS[2 * i + 1], KEYS[2 * i + 2]
    while is_paused[i] == 0 and n < count do
      local payload = redis.call('RPOP', landing)
      if not payload then break end
      keep(name, payload)
    end
    -- The newest is at the head: moved first, so that the oldest ends up at the very front.
    while redis.call('LMOVE', landing, queue, 'LEFT', 'RIGHT') do end
  end
end

for i, name in ipairs(names) do
  if n >= count then break end
  if is_paused[i] == 0 then
    local payloads = redis.call('RPOP', KEYS[2 * i + 1], count - n)
    if payloads then
      for _, payload in ipairs(payloads) do keep(name, payload) end
    end
  end
end

return {paused, taken, '0'}
