-- What `iteration.lua` and `settle.lua` have in common: writing the state of a long job, and the hashes beside it.
--
-- KEYS     none of its own: those of the scripts that it is put before
-- ARGV     from `first` to `last`: key, seconds for which it is kept from now on (0: it goes), how many fields, field,
--          value, ... (an empty value removes the field), and so on
-- Returns  nil; or an error, if one of them is something else by now, as anybody may have written there: it is left alone

local function write_hashes(first, last)
  local i, broken = first, nil
  while i <= last do
    local key, kept, count = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
    if kept == 0 then
      redis.call('UNLINK', key)
    else
      for j = i + 3, i + 2 + 2 * count, 2 do
        local done
        if ARGV[j + 1] == '' then
          done = redis.pcall('HDEL', key, ARGV[j])
        else
          done = redis.pcall('HSET', key, ARGV[j], ARGV[j + 1])
        end
        if type(done) == 'table' then
          broken = key .. ': ' .. done.err
          break
        end
      end
      redis.call('EXPIRE', key, kept)
    end
    i = i + 3 + 2 * count
  end
  return broken
end

