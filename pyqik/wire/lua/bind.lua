-- Gives the units of a process that has died their tokens where a running one may have had none yet: those on the
-- landing lists get one here; those of the last take have theirs, but the process may have died before it read so.
--
-- KEYS  1 in-flight hash of the process
-- ARGV  1 what the names of its landing lists begin with   2 the take number for what is on them, larger than any other
-- Returns  {tokens of what had landed, the oldest first, tokens of the last takes}
-- Before   units stand on landing lists        After   they stand in the hash instead; once more gives the same answer

local in_flight, number = KEYS[1], ARGV[2]
local landed, last = {}, {}

local function note(tokens, take)
  local n = 1
  while redis.call('HEXISTS', in_flight, take .. ':' .. n) == 1 do
    tokens[#tokens + 1] = take .. ':' .. n
    n = n + 1
  end
end

local function bind(capsule, names)
  for name in string.gmatch(names, '[^\n]+') do
    local payload = redis.call('RPOP', ARGV[1] .. capsule .. ':' .. name)
    while payload do
      landed[#landed + 1] = number .. ':' .. (#landed + 1)
      redis.call('HSET', in_flight, landed[#landed], name .. '\n' .. payload)
      payload = redis.call('RPOP', ARGV[1] .. capsule .. ':' .. name)
    end
  end
end

note(landed, number)
for _, field in ipairs(redis.call('HKEYS', in_flight)) do
  local kind, capsule = string.match(field, '^(%l+)%.(.*)$')
  if kind == 'queues' then
    bind(capsule, redis.call('HGET', in_flight, field))
  elseif kind == 'take' then
    last[redis.call('HGET', in_flight, field)] = true
  end
end

local of_last_takes = {}
for _, field in ipairs(redis.call('HKEYS', in_flight)) do
  local take = string.match(field, '^(%d+):%d+$')
  if take and last[take] then of_last_takes[#of_last_takes + 1] = field end
end
return {landed, of_last_takes}
