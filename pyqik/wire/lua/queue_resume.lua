-- Finds a reader's place in a queue again, when jobs have come and gone since its last page, and reads the next page: from
-- the job that was to be the next, or else from behind the last one of those that were seen.
--
-- KEYS  1 the queue's list
-- ARGV  1 how many   2 the index at which the next job stood   3 that job   4… the jobs of the page before, the last first
-- Returns  {index, payload, payload, ...}: where the page begins, and one payload more than asked for, if there is one;
--          {} if none of these jobs is found

local list, size, expected = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])
-- Elements to both sides that are looked at before the whole list is searched, which may be long.
local NEAR = 200
-- Elements that are looked at when the whole list is searched for one job after another: some 20 milliseconds.
local FAR = 2000000

local function page(first)
  return {first, unpack(redis.call('LRANGE', list, first, first + size))}
end

-- The same text may stand there twice: what is nearest to where it was is meant.
local function nearer(index, than)
  return not than or math.abs(index - expected) < math.abs(than - expected)
end

local from, near = math.max(0, expected - NEAR), {}
for offset, payload in ipairs(redis.call('LRANGE', list, from, expected + NEAR)) do
  local index = from + offset - 1
  if nearer(index, near[payload]) then near[payload] = index end
end
for i = 3, #ARGV do
  local index = near[ARGV[i]]
  -- Those that stood behind it, and were looked for before it, would be within what was looked at, too.
  if index and index + i - 3 <= expected + NEAR then return page(i == 3 and index or index + 1) end
end

local searches = math.max(3, math.floor(FAR / math.max(1, redis.call('LLEN', list))))
for i = 3, math.min(#ARGV, 2 + searches) do
  local best
  for _, index in ipairs(redis.call('LPOS', list, ARGV[i], 'COUNT', 0)) do
    if nearer(index, best) then best = index end
  end
  if best then return page(i == 3 and best or best + 1) end
end
return {}
