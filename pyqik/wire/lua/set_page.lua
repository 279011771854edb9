-- One page of a sorted set, the highest score first. It goes on below the last entry that was seen, although entries have
-- come and gone since.
--
-- KEYS  1 the sorted set
-- ARGV  1 how many   2 how many to leave out   3 the score of the last entry that was seen, as it was returned   4 its member
--       (3 and 4 only after the first page)
-- Returns  {member, score, member, score, ...}; if the last entry has gone, the page begins with all of its score, those
--          that were seen included

local first = tonumber(ARGV[2])
if ARGV[3] then
  if redis.call('ZSCORE', KEYS[1], ARGV[4]) == ARGV[3] then
    first = redis.call('ZREVRANK', KEYS[1], ARGV[4]) + 1
  else
    first = first + redis.call('ZCOUNT', KEYS[1], '(' .. ARGV[3], '+inf')
  end
end
return redis.call('ZREVRANGE', KEYS[1], first, first + ARGV[1] - 1, 'WITHSCORES')
