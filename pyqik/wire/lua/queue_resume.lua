-- Finds a reader's place in a queue again, when jobs have come and gone since its last page, and reads the next page: from
-- the job that was to be the next, or else from behind the last one that was seen.
--
-- KEYS  1 the queue's list
-- ARGV  1 how many   2 the index at which the next job stood   3 that job   4 the last job of the page before
-- Returns  {index, payload, payload, ...}: where the page begins, and one payload more than asked for, if there is one;
--          {} if neither job is there any more: what was older has been taken before them

local list, size, expected = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])
-- Elements to both sides that are looked at before the whole list is searched, which may be long.
local NEAR = 200

local function nearest(indexes, index)
  local best
  for _, each in ipairs(indexes) do
    if not best or math.abs(each - index) < math.abs(best - index) then best = each end
  end
  return best
end

local function find(payload, index)
  local from, near = math.max(0, index - NEAR), {}
  for offset, each in ipairs(redis.call('LRANGE', list, from, index + NEAR)) do
    if each == payload then near[#near + 1] = from + offset - 1 end
  end
  -- The same text may stand there twice.
  return nearest(near, index) or nearest(redis.call('LPOS', list, payload, 'COUNT', 0), index)
end

local first = find(ARGV[3], expected)
if not first then
  local last = find(ARGV[4], expected - 1)
  if not last then return {} end
  first = last + 1
end
return {first, unpack(redis.call('LRANGE', list, first, first + size))}
