-- Takes a reader off a bundle of state on this node; the bundle goes with its last reader.
--
-- KEYS[1]  state    hash    field -> frame, and "" -> readers, joined by commas (empty: unknown)
-- KEYS[2]  arrived  stream  tells of the push that brings the bundle, or brought it
-- KEYS[3]  retired  set     readers that are done with the bundle, for a push that comes late or again
--
-- ARGV[1]  the reader
-- ARGV[2]  time to live of the set in ms, or "" where no push brings the bundle to this node
--
-- Returns how many readers are left: 0 where the bundle is gone now, -1 where its readers are unknown (then it
-- stays until its time to live ends).

if ARGV[2] ~= '' then
  redis.call('SADD', KEYS[3], ARGV[1])
  redis.call('PEXPIRE', KEYS[3], ARGV[2])
end

local readers = redis.call('HGET', KEYS[1], '')
if not readers then return 0 end
if readers == '' then return -1 end

local left = {}
for reader in string.gmatch(readers, '[^,]+') do
  if reader ~= ARGV[1] then left[#left + 1] = reader end
end
if #left == 0 then
  redis.call('DEL', KEYS[1], KEYS[2])
else
  redis.call('HSET', KEYS[1], '', table.concat(left, ','))
end
return #left
